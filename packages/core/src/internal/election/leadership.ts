/**
 * A leadership: a held lock whose key has a value that its holder may change. So may a candidate that waits for it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { execute } from "../../backend/KvBackend.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import * as KvError from "../../values/KvError.ts"
import type { LockLost } from "../../values/LockError.ts"
import * as Op from "../../values/Op.ts"
import * as internals from "../kv/internals.ts"
import type { Contender } from "../queue/contender.ts"
import * as contender from "../queue/contender.ts"
import * as heldLock from "../queue/heldLock.ts"
import type { Lock } from "../queue/model.ts"
import type { Leadership, ScopedLeadership } from "./model.ts"

/** The leadership of a lock that `DistLock` acquired. */
export const of = (lock: Lock): Leadership => new LeadershipOf(lock, placeOfLock(lock))

/** The same with an effect that ends it. `place` is that of the candidate that became the leader, if it has one. */
export const scoped = (lock: Lock, resign: Effect.Effect<void>, place: Place = placeOfLock(lock)): ScopedLeadership =>
  new ScopedLeadershipOf(lock, place, resign)

/** A class because of `toJSON`: JSON has no bigints. */
class LeadershipOf implements Leadership {
  readonly name: string
  readonly key: string
  readonly token: bigint
  readonly isLeader: Leadership["isLeader"]
  readonly lost: Leadership["lost"]
  readonly proclaim: Leadership["proclaim"]
  readonly lock: Lock

  constructor(lock: Lock, place: Place) {
    this.name = lock.name
    this.key = lock.key
    this.token = lock.token
    this.isLeader = lock.isHeld
    this.lost = lock.lost
    this.lock = lock
    this.proclaim = (value) => proclaim(place, value)
  }

  toJSON(): unknown {
    return { name: this.name, key: this.key, token: `${this.token}`, isLeader: this.lock.isHeldUnsafe() }
  }
}

class ScopedLeadershipOf extends LeadershipOf implements ScopedLeadership {
  readonly resign: Effect.Effect<void>

  constructor(lock: Lock, place: Place, resign: Effect.Effect<void>) {
    super(lock, place)
    this.resign = resign
  }
}

/** The place of a candidate in the queue, whether it waits or leads. */
export interface Place {
  readonly kv: Kv
  readonly key: string
  readonly token: bigint
  /** Whether it has the place, as far as is known. */
  readonly isKeptUnsafe: () => boolean
  /** Records that it has lost the place, and returns the loss, or an earlier one. */
  readonly lose: (reason: string) => Effect.Effect<LockLost>
  /** The lease that the key is attached to. */
  readonly lease: () => bigint
  /** The last known revision of its value. */
  revision: bigint
}

const placeOfLock = (lock: Lock): Place => {
  // The lock comes from a queue, see `Election`.
  const held = heldLock.from(lock)!
  return {
    kv: held.kv,
    key: lock.key,
    token: lock.token,
    isKeptUnsafe: held.isHeldUnsafe,
    lose: (reason) => held.lose(reason),
    lease: () => held.lease,
    revision: lock.token
  }
}

/** The place of a contender that has entered its queue. */
export const placeOf = (own: Contender): Place => {
  const { claim, key, kv, logged: { token } } = own
  return {
    kv,
    key,
    token,
    isKeptUnsafe: () => !Deferred.isDoneUnsafe(claim.loss) && own.session.isAliveUnsafe(),
    lose: (reason) => Effect.andThen(contender.lose([own], reason), Effect.flip(Deferred.await(claim.loss))),
    lease: () => own.session.lease,
    revision: token
  }
}

/**
 * Writes the value if the key is ours and its value the last one known; reads it and tries again if only the value is another.
 * So a request that was sent before, and is still in flight, cannot replace a value that was proclaimed after it.
 */
export const proclaim = (
  place: Place,
  value: string,
  lease: bigint = place.lease()
): Effect.Effect<bigint, KvError.KvError> =>
  Effect.suspend(() => {
    const { key, kv, revision, token } = place
    if (!place.isKeptUnsafe()) return Effect.flatMap(place.lose(outOfTime), KvError.fail)
    const write = execute(
      // Under the fences of the calling fiber, as every write of an application.
      internals.of(kv).backend,
      Op.txn({
        if: [Compare.modRevision(key, "=", revision)],
        then: [Op.put(key, value, { lease })],
        else: [Op.get(key)]
      })
    )
    return Effect.flatMap(write, (response) => {
      if (response.succeeded) {
        place.revision = response.revision
        return Effect.succeed(response.revision)
      }
      const [entry] = response.responses[0].entries
      if (entry?.createRevision !== token) return Effect.flatMap(place.lose(rejected), KvError.fail)
      place.revision = entry.modRevision
      // The lease that the key is on, which is another if the key has just moved; ours if a foreign write detached it.
      return proclaim(place, value, Option.getOrElse(entry.lease, place.lease))
    })
  })

const rejected = "a proclamation was rejected because its key is gone"
const outOfTime = "its time had run out"
