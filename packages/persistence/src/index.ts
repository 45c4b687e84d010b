/** Effect's persistence modules on effect-kv: KeyValueStore, Persistence, PersistedQueue, RateLimiter, CircuitBreaker. */
