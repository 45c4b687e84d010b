/**
 * Batching for a client of a store in memory, so that a program behaves as on etcd.
 *
 * The store executes a request at once, but the client receives the response one turn of the scheduler later. Without
 * that turn no two calls would ever be in flight together, and nothing would be batched.
 */
import * as Batching from "@effect-kv/core/Batching"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Effect from "effect/Effect"

/**
 * How concurrent operations are batched: see `Batching.Options`.
 *
 * @since 0.1.0
 */
export interface BatchingOptions extends Pick<Batching.Options, "maxOps" | "maxBytes" | "maxInFlight"> {}

/** Wraps a client with batching, unless the options are `false`. */
export const batched = (options: false | BatchingOptions) => (backend: KvBackend): KvBackend =>
  options === false ? backend : Batching.batched(options)({
    ...backend,
    execute: (op) => Effect.flatMap(Effect.exit(backend.execute(op)), (exit) => Effect.andThen(Effect.yieldNow, exit))
  })
