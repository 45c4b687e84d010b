/**
 * Modules for authors of backends, wrappers and recipes: `@effect-kv/core/backend`.
 */
export * as Fence from "../service/Fence.ts"
export * as KvInternals from "../service/KvInternals.ts"
export * as Batching from "./Batching.ts"
export * as Check from "./Check.ts"
export * as KvBackend from "./KvBackend.ts"
export * as KvMetrics from "./KvMetrics.ts"
export * as LastFailure from "./LastFailure.ts"
export * as Namespace from "./Namespace.ts"
export * as SendControl from "./SendControl.ts"
export * as Tracing from "./Tracing.ts"
