/**
 * Tests of clusters in virtual time: `@effect-kv/cluster/testing`.
 */
export * as MemoryNetwork from "./MemoryNetwork.ts"
export * as TestCluster from "./TestCluster.ts"
