/**
 * A client whose calls are recorded, and can be held or lose their responses.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import type * as Watch from "@effect-kv/core/Watch"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { around, type Call } from "../../testing/BackendCall.ts"
import { type Environment, newClient } from "./Case.ts"

export type { Call } from "../../testing/BackendCall.ts"

/** Hooks around calls, and records of them. */
export interface Faults {
  /** Runs before a call is made. */
  before: (call: Call) => Effect.Effect<void, KvError.KvError>
  /** Runs after a call has succeeded, before its response is returned. */
  after: (call: Call) => Effect.Effect<void, KvError.KvError>
  /** All calls so far. */
  readonly calls: Array<Call>
  /** Leases that were requested with an id. */
  readonly leases: Array<bigint>
  /** How many calls are in flight. */
  pending: number
  /** How many watches are open. */
  watches: number
  /** The last revision of each key that a watch has delivered. */
  readonly delivered: Map<string, bigint>
}

const nothing = (): Effect.Effect<void> => Effect.void

export const make = (): Faults => ({
  before: nothing,
  after: nothing,
  calls: [],
  leases: [],
  pending: 0,
  watches: 0,
  delivered: new Map()
})

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
        Effect.map(wrapped.watch(request), (watcher): Watch.Watcher => ({
          ...watcher,
          take: Effect.tap(watcher.take, (revisions) =>
            Effect.sync(() => {
              for (const { events } of revisions) {
                for (const { key, revision } of events) faults.delivered.set(key, revision)
              }
            }))
        }))
      )
  }
}

/** A new client of the store under test, with these hooks, until the case ends. */
export const newClientWith = Effect.fnUntraced(function*(
  faults: Faults
): Effect.fn.Return<Kv.Kv, unknown, Environment> {
  const kv = yield* Effect.flatMap(newClient, (kv) => Kv.make(wrap(faults)(backendOf(kv))))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      faults.before = nothing
      faults.after = nothing
    })
  )
  return kv
})

/** Whether a call is a transaction with a delete: in these cases, a release. */
export const isRemoval = (call: Call): boolean =>
  call.op?._tag === "Txn" && call.op.then.some((op) => op._tag === "Delete")

/** Whether a call is a transaction with a put: in these cases, an entry into a lock's queue. */
export const isEntry = (call: Call): boolean => call.op?._tag === "Txn" && call.op.then.some((op) => op._tag === "Put")

/** A barrier at which calls stop until they are let go. */
export interface Barrier {
  readonly stop: Effect.Effect<void>
  /** Waits until a call has reached the barrier. */
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

/** The failure of a call whose response was lost. */
export const lostResponse: Effect.Effect<never, KvError.KvError> = KvError.fail(
  new KvError.Indeterminate({ message: "a test fault lost the response" })
)

/** The failure of a call that was never sent. */
export const unavailable: Effect.Effect<never, KvError.KvError> = KvError.fail(
  new KvError.Unavailable({ message: "a test fault made the store unreachable" })
)
