/**
 * A client whose calls to the store are recorded and can be held up, or lose their answers.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { around, type Call } from "../../testing/BackendCall.ts"
import { type Environment, newClient } from "./Case.ts"

export type { Call } from "../../testing/BackendCall.ts"

/** What is done about calls, and what is known of them. */
export interface Faults {
  /** Runs before a call is made. */
  before: (call: Call) => Effect.Effect<void, KvError.KvError>
  /** Runs when a call has succeeded, before its answer is given. */
  after: (call: Call) => Effect.Effect<void, KvError.KvError>
  /** All that were made. */
  readonly calls: Array<Call>
  /** Leases that were asked for by an id. */
  readonly leases: Array<bigint>
  /** Calls that are under way. */
  pending: number
  /** Watches that are open. */
  watches: number
}

const nothing = (): Effect.Effect<void> => Effect.void

export const make = (): Faults => ({ before: nothing, after: nothing, calls: [], leases: [], pending: 0, watches: 0 })

export const wrap = (faults: Faults) => (backend: KvBackend): KvBackend => {
  const change = (what: "pending" | "watches", by: 1 | -1) =>
    Effect.sync(() => {
      faults[what] += by
    })
  const wrapped = around((call, effect) =>
    Effect.acquireUseRelease(
      change("pending", 1),
      () =>
        Effect.suspend(() => {
          faults.calls.push(call)
          if (call.kind === "leaseGrant" && call.lease !== undefined) faults.leases.push(call.lease)
          return Effect.andThen(faults.before(call), effect)
        }).pipe(Effect.tap(() => faults.after(call))),
      () => change("pending", -1)
    )
  )(backend)
  return {
    ...wrapped,
    watch: (request) =>
      Effect.andThen(
        Effect.acquireRelease(change("watches", 1), () => change("watches", -1)),
        wrapped.watch(request)
      )
  }
}

/** A new client of the store under test that is subject to faults, until the case ends. */
export const newClientWith = Effect.fnUntraced(function*(
  faults: Faults
): Effect.fn.Return<Kv.Kv, unknown, Environment> {
  const kv = yield* Effect.flatMap(newClient, (kv) => Kv.make(wrap(faults)(kv.backend)))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      faults.before = nothing
      faults.after = nothing
    })
  )
  return kv
})

/** Whether a call is a transaction that may delete: in these cases, one that gives a key back. */
export const isRemoval = (call: Call): boolean =>
  call.op?._tag === "Txn" && call.op.then.some((op) => op._tag === "Delete")

/** Whether a call is a transaction that puts: in these cases, one that enters a lock's queue. */
export const isEntry = (call: Call): boolean => call.op?._tag === "Txn" && call.op.then.some((op) => op._tag === "Put")

/** Where calls stop, until they are let go. */
export interface Barrier {
  readonly stop: Effect.Effect<void>
  /** Waits until a call has stopped. */
  readonly reached: Effect.Effect<void>
  readonly letGo: Effect.Effect<void>
}

export const barrier: Effect.Effect<Barrier> = Effect.sync(() => {
  const reached = Deferred.makeUnsafe<void>()
  const free = Deferred.makeUnsafe<void>()
  return {
    stop: Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(free)),
    reached: Deferred.await(reached),
    letGo: Effect.asVoid(Deferred.succeed(free, undefined))
  }
})

/** How a call fails whose answer was lost. */
export const lostAnswer: Effect.Effect<never, KvError.KvError> = KvError.fail(
  new KvError.Indeterminate({ message: "the answer was lost, says the test" })
)

/** How a call fails that never left. */
export const unavailable: Effect.Effect<never, KvError.KvError> = KvError.fail(
  new KvError.Unavailable({ message: "the store is out of reach, says the test" })
)
