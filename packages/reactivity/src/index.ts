/**
 * Invalidates Effect's `Reactivity` from effect-kv watches, so that queries of all replicas refresh.
 */
export * as KvReactivity from "./KvReactivity.ts"
