/**
 * The etcd backend.
 */
export * as EtcdClient from "./EtcdClient.ts"
export * as EtcdLayer from "./EtcdLayer.ts"
export * as EtcdStatus from "./EtcdStatus.ts"
