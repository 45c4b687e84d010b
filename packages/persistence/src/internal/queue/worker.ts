/**
 * A worker of a queue: a process that claims items, as long as its session lives.
 *
 * Its claims are persistent keys, but they count only while its key `alive` exists, which is attached to the session's
 * lease. Once that key is gone, every other worker may take the claims over, and this one can make no new ones.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type { Snapshot } from "@effect-kv/core/RangeView"
import * as Session from "@effect-kv/core/Session"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as failures from "./failures.ts"
import * as keysOf from "./keys.ts"

export interface Worker {
  /** Part of the keys of its claims: the id of its lease. */
  readonly id: string
  /** The condition of its claims: its key `alive` is the one that it has put. */
  readonly isAlive: Compare.Compare
  /** Completes when its session is lost. */
  readonly lost: Effect.Effect<void>
}

/** Registers a worker until the scope closes. */
export const register = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  keys: keysOf.Keys,
  ttl: Duration.Input
): Effect.fn.Return<Worker, KvError, Scope.Scope> {
  const session = yield* Effect.provideService(Session.make({ ttl }), Kv.Kv, kv)
  const id = session.lease.toString(16)
  const alive = keysOf.alive(keys, id)
  // The lease belongs to this worker alone, so a key that exists already is that of an attempt whose response was lost.
  const response = yield* failures.persistently(kv.txn({
    if: [Compare.missing(alive)],
    then: [Op.put(alive, "", { lease: session.lease }), Op.put(keysOf.owner(keys, id), "")],
    else: [Op.get(alive)]
  }))
  const token = response.succeeded ? response.revision : response.responses[0].entries[0]?.createRevision ?? 0n
  yield* Effect.addFinalizer(() => leave(kv, keys, id))
  return {
    id,
    isAlive: Compare.createRevision(alive, "=", token),
    lost: Effect.ignore(session.lost)
  }
})

/** Removes the keys of a worker that has no claims. If it still has some, the worker that takes over the last one does. */
const leave = (kv: Kv.Kv, keys: keysOf.Keys, id: string): Effect.Effect<void> =>
  kv.txn({
    if: [Compare.empty(keysOf.claimsOf(keys, id))],
    then: [Op.delete(keysOf.alive(keys, id)), Op.delete(keysOf.owner(keys, id))]
  }).pipe(Effect.timeoutOption("1 second"), Effect.ignore)

/** The workers that are gone and may have left claims. */
export const gone = (keys: keysOf.Keys, { entries }: Snapshot): ReadonlySet<string> => {
  const owners = new Set<string>()
  const alive = new Set<string>()
  for (const key of entries.keys()) {
    const { isOwner, worker } = keysOf.workerOf(keys, key)
    if (isOwner) owners.add(worker)
    else alive.add(worker)
  }
  for (const worker of alive) owners.delete(worker)
  return owners
}

/** Forgets a worker that is gone, if it has left no claims. */
export const forget = (kv: Kv.Kv, keys: keysOf.Keys, id: string): Effect.Effect<unknown, KvError> =>
  failures.persistently(kv.txn({
    if: [Compare.missing(keysOf.alive(keys, id)), Compare.empty(keysOf.claimsOf(keys, id))],
    then: [Op.delete(keysOf.owner(keys, id))]
  }))
