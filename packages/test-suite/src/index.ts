/**
 * What proves a backend of effect-kv: the contract as a suite, random programs against a second store, real etcd servers
 * and the faults to put in their way.
 */
export * as Differential from "./Differential.ts"
export * as EtcdBinaries from "./EtcdBinaries.ts"
export * as EtcdCluster from "./EtcdCluster.ts"
export * as History from "./History.ts"
export * as KvConformance from "./KvConformance.ts"
export * as Recorder from "./Recorder.ts"
export * as TcpProxy from "./TcpProxy.ts"
export * as TestCertificates from "./TestCertificates.ts"
