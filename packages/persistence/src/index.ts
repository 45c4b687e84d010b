/** Effect's persistence modules on effect-kv: KeyValueStore, Persistence, PersistedQueue, RateLimiter, CircuitBreaker. */
export * as KvCircuitBreaker from "./KvCircuitBreaker.ts"
export * as KvPersistedQueue from "./KvPersistedQueue.ts"
