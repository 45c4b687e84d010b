/**
 * What authors of backends, and of functions from backend to backend, need: `@effect-kv/core/backend`.
 */
export * as KvInternals from "../service/KvInternals.ts"
export * as Batching from "./Batching.ts"
export * as KvBackend from "./KvBackend.ts"
export * as Namespace from "./Namespace.ts"
export * as SendControl from "./SendControl.ts"
export * as Tracing from "./Tracing.ts"
