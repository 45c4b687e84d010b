/** Effect's persistence modules on effect-kv: KeyValueStore, Persistence, PersistedQueue, RateLimiter, CircuitBreaker. */
export * as KvCircuitBreaker from "./KvCircuitBreaker.ts"
export * as KvKeyValueStore from "./KvKeyValueStore.ts"
export * as KvPersistedCache from "./KvPersistedCache.ts"
export * as KvPersistedQueue from "./KvPersistedQueue.ts"
export * as KvPersistence from "./KvPersistence.ts"
export * as KvRateLimiter from "./KvRateLimiter.ts"
