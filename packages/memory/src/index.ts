/**
 * The store in memory: etcd's model on one machine.
 */
export * as MemoryLayer from "./MemoryLayer.ts"
export * as MemoryStore from "./MemoryStore.ts"
