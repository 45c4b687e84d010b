/**
 * Fences: conditions that each write of a fiber is sent with, so that the store rejects it once they do not hold.
 *
 * A lock alone excludes others only as long as its holder knows the time; a holder that was paused can write after its
 * lease ended and another took over. A fenced write is a transaction that compares the lock's key first, so a stale
 * holder's write changes nothing.
 *
 * `DistLock.withDistLock` and `DistLock.use` add the fence of their lock to the fiber that runs the body. Every `Kv` of the client reads the fences
 * of the calling fiber when a call runs, so it does not matter where the `Kv` came from: the environment, a service that
 * captured it when its layer was built, or a namespace. Fibers inherit the fences of the fiber that starts them.
 *
 * Reads are not fenced. `Lease.revoke` cannot be conditional: it fails if the lock is known to be lost.
 */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import { constTrue, dual } from "effect/Function"
import * as internal from "../internal/fence/currentFences.ts"
import type { Fence } from "../internal/fence/currentFences.ts"
import * as rootCompare from "../internal/fence/rootCompare.ts"
import * as internals from "../internal/kv/internals.ts"
import * as kvService from "../internal/kv/makeKv.ts"
import type * as Compare from "../values/Compare.ts"
import type * as KvError from "../values/KvError.ts"
import type { Kv } from "./Kv.ts"

export type { Fence }

/**
 * The fences of the current fiber, the outermost first. Default: none.
 *
 * **When to use**
 *
 * To hand the fences of one fiber to another that did not inherit them, such as a worker that reads a queue:
 * read `Fence.Current`, and run the work with `Effect.provideService(work, Fence.Current, fences)`. And as the key of a
 * `RequestResolver` that writes (`RequestResolver.makeGrouped`): a batch must not mix the writes of different locks.
 */
export const Current: Context.Reference<ReadonlyArray<Fence>> = internal.Current

/**
 * Runs the effect, and every fiber it starts, without fences.
 *
 * **When to use**
 *
 * For work that is started under a lock and must outlive it, such as the background fiber of a service that is built on
 * first use. Once the lock is released, the writes of a fiber that inherited its fence are rejected.
 */
export const unfenced: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = internal.unfenced

/** Runs the effect, and every fiber it starts, with one more fence. */
export const provide: {
  (fence: Fence): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, fence: Fence): Effect.Effect<A, E, R>
} = dual(2, internal.add)

/**
 * Makes a fence of conditions on keys of this `Kv`. It applies to all writes of the `Kv`'s client, in whatever namespace.
 *
 * `rejected` is the failure of a write that the store rejected. `isHeldUnsafe` tells what is known without a request;
 * default: nothing. When it is false, a write is not sent and fails with `notHeld`; default: `rejected`.
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
 * The `Kv` with conditions of one's own on each of its writes, whichever fiber makes it. If one of them does not hold, the
 * write fails with `rejected` and changes nothing.
 *
 * **Details**
 *
 * The keys of the conditions are keys of this `Kv`. Locks and temporary keys are released without the conditions.
 *
 * **Gotchas**
 *
 * The conditions take of a transaction's 128 operations what they need: a fenced transaction can hold as many operations
 * less as there are conditions.
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
