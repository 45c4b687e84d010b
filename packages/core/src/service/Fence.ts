/**
 * Fences: conditions on each write of a fiber. The store rejects a write if one of them does not hold.
 *
 * A lock alone is not enough: a holder that was paused can write after its lease has ended and another client has
 * acquired the
 * lock. A fenced write is a transaction that compares the lock's key first, so a stale holder's write changes nothing.
 *
 * `DistLock.withDistLock` and `DistLock.use` add the fence of their lock to the fiber that runs the body. Every `Kv` of
 * the client reads the fences of the calling fiber when a call runs. So it does not matter where the `Kv` came from:
 * the environment, a service that captured it when its layer was built, or a namespace. Fibers inherit the fences of
 * the fiber that starts them.
 *
 * Reads are not fenced. `Lease.revoke` cannot be conditional: it fails if the lock is known to be lost.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { constTrue, dual } from "effect/Function"
import * as internal from "../internal/fence/currentFences.ts"
import type { Fence } from "../internal/fence/currentFences.ts"
import * as rootCompare from "../internal/fence/rootCompare.ts"
import * as internals from "../internal/kv/internals.ts"
import * as kvService from "../internal/kv/makeKv.ts"
import type * as Compare from "../values/Compare.ts"
import * as KvError from "../values/KvError.ts"
import type { Kv } from "./Kv.ts"

export type { Fence }

/**
 * The fences of the current fiber, the outermost first. Default: none.
 *
 * **When to use**
 *
 * To hand the fences of one fiber to another that did not inherit them, such as a worker that reads a queue. Read
 * `Fence.Current`, and run the work with `Effect.provideService(work, Fence.Current, fences)`. Also as the key of a
 * `RequestResolver` that writes (`RequestResolver.makeGrouped`): a batch must not mix the writes of different locks.
 *
 * @example
 * ```ts
 * import { DistLock, Fence } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const fences = yield* Fence.Current.pipe(DistLock.withDistLock("nightly"))
 *   fences.length // => 1
 * })
 * ```
 *
 * @since 0.1.0
 */
export const Current: Context.Reference<ReadonlyArray<Fence>> = internal.Current

/**
 * Runs the effect, and every fiber it starts, without fences.
 *
 * **When to use**
 *
 * For work that is started under a lock and must outlive it, such as the background fiber of a service that is built on
 * first use. Once the lock is released, the store rejects writes of a fiber that inherited its fence.
 *
 * @example
 * ```ts
 * import { DistLock, Fence } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const fences = yield* Fence.unfenced(Fence.Current).pipe(DistLock.withDistLock("nightly"))
 *   fences.length // => 0
 * })
 * ```
 *
 * @since 0.1.0
 */
export const unfenced: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = internal.unfenced

/**
 * Runs the effect, and every fiber it starts, with one more fence.
 *
 * @example
 * ```ts
 * import { Compare, Fence, Kv, KvError } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const whileOpen = Fence.make(kv, {
 *     conditions: [Compare.value("state", "=", "open")],
 *     rejected: KvError.fail(new KvError.InvalidRequest({ message: "the state is not open" }))
 *   })
 *   yield* kv.put("state", "closed")
 *   const error = yield* kv.put("a", "1").pipe(Fence.provide(whileOpen), Effect.flip)
 *   error.reason.message // => "the state is not open"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const provide: {
  (fence: Fence): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, fence: Fence): Effect.Effect<A, E, R>
} = dual(2, internal.add)

/**
 * Makes a fence of conditions on keys of this `Kv`. It applies to all writes of the `Kv`'s client, in every namespace.
 *
 * **Details**
 *
 * `rejected` is the failure of a write that the store rejected. `isHeldUnsafe` returns false if the conditions are
 * known not to hold, without a request; default: always true. Then a write is not sent and fails with `notHeld`;
 * default: `rejected`.
 *
 * @example
 * ```ts
 * import { Compare, Fence, Kv, KvError } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const whileMissing = Fence.make(kv, {
 *     conditions: [Compare.missing("stop")],
 *     rejected: KvError.fail(new KvError.InvalidRequest({ message: "stopped" }))
 *   })
 *   yield* Fence.provide(kv.put("a", "1"), whileMissing)
 *   yield* kv.get("a") // => Option.some("1")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (
  kv: Kv,
  options: Pick<Fence, "conditions" | "rejected"> & Partial<Pick<Fence, "isHeldUnsafe" | "notHeld">>
): Fence => {
  const { client, prefix } = internals.of(kv).origin
  return {
    client,
    conditions: options.conditions.map((condition) => rootCompare.make(prefix, condition)),
    isHeldUnsafe: options.isHeldUnsafe ?? constTrue,
    notHeld: options.notHeld ?? options.rejected,
    rejected: options.rejected
  }
}

/**
 * The `Kv` with conditions of your own on each of its writes, whichever fiber makes it. If one of them does not hold,
 * the write fails with `rejected` and changes nothing.
 *
 * **Details**
 *
 * The keys of the conditions are keys of this `Kv`. Locks and temporary keys are released without the conditions.
 *
 * **Gotchas**
 *
 * Each condition takes one of the 128 elements that a fenced transaction can hold.
 *
 * @example
 * ```ts
 * import { Compare, Fence, Kv, KvError } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const stopped = KvError.fail(new KvError.InvalidRequest({ message: "stopped" }))
 *   const guarded = Fence.guarded(kv, [Compare.missing("stop")], stopped)
 *   yield* guarded.put("a", "1")
 *   yield* kv.put("stop", "now")
 *   const error = yield* Effect.flip(guarded.put("a", "2"))
 *   error.reason.message // => "stopped"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const guarded: {
  (
    conditions: ReadonlyArray<Compare.Compare>,
    rejected: Effect.Effect<never, KvError.KvError>
  ): (kv: Kv) => Kv
  (kv: Kv, conditions: ReadonlyArray<Compare.Compare>, rejected: Effect.Effect<never, KvError.KvError>): Kv
} = dual(
  3,
  (kv: Kv, conditions: ReadonlyArray<Compare.Compare>, rejected: Effect.Effect<never, KvError.KvError>): Kv =>
    kvService.withFence(kv, make(kv, { conditions, rejected }))
)

/**
 * The `Kv` with a fence on each of its writes, whichever fiber makes it.
 *
 * **When to use**
 *
 * To hand a `Kv` to code that runs in fibers of its own, such as the handlers of an entity, while the fence's condition
 * is on a key of another namespace. {@link guarded} is shorter for conditions on keys of the same `Kv`.
 *
 * **Details**
 *
 * Fails with `InvalidRequest` if the fence was made with another client: its condition could not be part of the writes
 * of this one, and they would be applied without it.
 *
 * @example
 * ```ts
 * import { Compare, Fence, Kv, KvError } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const whileOpen = Fence.make(kv, {
 *     conditions: [Compare.value("state", "=", "open")],
 *     rejected: KvError.fail(new KvError.InvalidRequest({ message: "the state is not open" }))
 *   })
 *   const orders = yield* Fence.attach(Kv.prefixed(kv, "orders/"), whileOpen)
 *   const error = yield* Effect.flip(orders.put("1", "book"))
 *   error.reason.message // => "the state is not open"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const attach: {
  (fence: Fence): (kv: Kv) => Effect.Effect<Kv, KvError.KvError>
  (kv: Kv, fence: Fence): Effect.Effect<Kv, KvError.KvError>
} = dual(
  2,
  (kv: Kv, fence: Fence): Effect.Effect<Kv, KvError.KvError> =>
    Effect.suspend(() =>
      internals.of(kv).origin.client === fence.client
        ? Effect.succeed(kvService.withFence(kv, fence))
        : KvError.fail(new KvError.InvalidRequest({ message: ofAnotherClient }))
    )
)

const ofAnotherClient = "the fence was made with another client than this Kv, so the store cannot check it together " +
  "with this Kv's writes; make both from one layer of the backend, or from namespaces of one Kv"
