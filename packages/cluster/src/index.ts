/**
 * Effect Cluster on effect-kv: runner storage, runner health, and entities fenced by their shard.
 */
export * as KvCluster from "./KvCluster.ts"
export * as KvEntity from "./KvEntity.ts"
export * as KvRunnerHealth from "./KvRunnerHealth.ts"
export * as KvRunnerStorage from "./KvRunnerStorage.ts"
export * as KvSingleton from "./KvSingleton.ts"
export * as ShardLocks from "./ShardLocks.ts"
