/**
 * Internals of a `Kv` and of a subscription, for authors of recipes and wrappers.
 *
 * An application needs none of this: data and watches are methods of `Kv`, recipes are modules.
 */
import type { KvBackend } from "../backend/KvBackend.ts"
import * as internals from "../internal/kv/internals.ts"
import type { Watcher } from "../values/Watch.ts"
import { type Kv, type Subscription, SubscriptionTypeId } from "./KvService.ts"

/**
 * The backend that the methods of the `Kv` call. Each write is conditional on the fences of the calling fiber. Keys are
 * relative to the `Kv`'s namespace.
 *
 * **When to use**
 *
 * To make another client of the same store, `Kv.make(KvInternals.backendOf(kv))`, or to execute an operation that is a
 * value.
 *
 * @example
 * ```ts
 * import { Kv, Op } from "@effect-kv/core"
 * import { KvBackend, KvInternals } from "@effect-kv/core/backend"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const backend = KvInternals.backendOf(yield* Kv.Kv)
 *   yield* KvBackend.execute(backend, Op.put("a", "1"))
 *   yield* Kv.get("a") // => Option.some("1")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const backendOf = (kv: Kv): KvBackend => internals.of(kv).backend

/**
 * The same backend without any fence, neither the calling fiber's nor the `Kv`'s own.
 *
 * **When to use**
 *
 * For the bookkeeping of a recipe that must work after a lock was lost, such as the removal of its keys. Never for the
 * writes of an application.
 *
 * @example
 * ```ts
 * import { DistLock, Kv, Op } from "@effect-kv/core"
 * import { KvBackend, KvInternals } from "@effect-kv/core/backend"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const backend = KvInternals.unfencedOf(yield* Kv.Kv)
 *   yield* KvBackend.execute(backend, Op.put("a", "1")).pipe(DistLock.withDistLock("nightly"))
 *   yield* Kv.get("a") // => Option.some("1")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const unfencedOf = (kv: Kv): KvBackend => internals.of(kv).unfenced

/**
 * The watcher that a subscription reads.
 *
 * **Gotchas**
 *
 * Read either the watcher or the subscription: a revision that one takes is not delivered to the other.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { KvInternals } from "@effect-kv/core/backend"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const subscription = yield* Kv.subscribe(KeyRange.key("a"))
 *   const { revision } = yield* Kv.put("a", "1")
 *   const revisions = yield* KvInternals.watcherOf(subscription).take
 *   revisions[0].revision === revision // => true
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const watcherOf = (subscription: Subscription): Watcher => subscription[SubscriptionTypeId]
