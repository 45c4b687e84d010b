/**
 * Conformance tests for backends: `@effect-kv/test-suite/conformance`. The contract as cases, and random programs on two
 * stores. They run in vitest, on any backend.
 */
export * as Differential from "./Differential.ts"
export * as KvConformance from "./KvConformance.ts"
