/**
 * The store in memory: etcd's model in one process.
 */
export * as MemoryLayer from "./MemoryLayer.ts"
export * as MemoryStore from "./MemoryStore.ts"
