/**
 * Faults for tests of applications: `@effect-kv/test-suite/testing`. Needs no Node, no test runner and no real store.
 */
export * as BackendCall from "./BackendCall.ts"
export * as KvFaults from "./KvFaults.ts"
