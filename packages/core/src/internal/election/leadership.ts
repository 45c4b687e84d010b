/**
 * A leadership: a held lock whose key has a value that its holder may change.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { execute } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as internals from "../kv/internals.ts"
import * as heldLock from "../queue/heldLock.ts"
import type { Lock } from "../queue/model.ts"
import type { Leadership, ScopedLeadership } from "./model.ts"

/** The leadership of a lock that `DistLock` acquired. */
export const of = (lock: Lock): Leadership => new LeadershipOf(lock)

/** The same with an effect that ends it. */
export const scoped = (lock: Lock, resign: Effect.Effect<void>): ScopedLeadership =>
  new ScopedLeadershipOf(lock, resign)

/** A class because of `toJSON`: JSON has no bigints. */
class LeadershipOf implements Leadership {
  readonly name: string
  readonly key: string
  readonly token: bigint
  readonly isLeader: Leadership["isLeader"]
  readonly lost: Leadership["lost"]
  readonly proclaim: Leadership["proclaim"]
  readonly lock: Lock

  constructor(lock: Lock) {
    this.name = lock.name
    this.key = lock.key
    this.token = lock.token
    this.isLeader = lock.isHeld
    this.lost = lock.lost
    this.lock = lock
    const place = { held: heldLock.from(lock)!, key: lock.key, token: lock.token, revision: lock.token }
    this.proclaim = (value) => proclaim(place, value)
  }

  toJSON(): unknown {
    return { name: this.name, key: this.key, token: `${this.token}`, isLeader: this.lock.isHeldUnsafe() }
  }
}

class ScopedLeadershipOf extends LeadershipOf implements ScopedLeadership {
  readonly resign: Effect.Effect<void>

  constructor(lock: Lock, resign: Effect.Effect<void>) {
    super(lock)
    this.resign = resign
  }
}

/** The key of a leader. `revision` is the last known revision of its value. */
interface Place {
  readonly held: heldLock.HeldLock
  readonly key: string
  readonly token: bigint
  revision: bigint
}

/**
 * Writes the value if the key is ours and its value the last one known; reads it and tries again if only the value is another.
 * So a request that was sent before, and is still in flight, cannot replace a value that was proclaimed after it.
 */
const proclaim = (
  place: Place,
  value: string,
  lease: bigint = place.held.lease
): Effect.Effect<bigint, KvError.KvError> =>
  Effect.suspend(() => {
    const { held, key, revision, token } = place
    if (!held.isHeldUnsafe()) return Effect.flatMap(held.lose(outOfTime), KvError.fail)
    const write = execute(
      // Under the fences of the calling fiber, as every write of an application.
      internals.of(held.kv).backend,
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
      if (entry?.createRevision !== token) return Effect.flatMap(held.lose(rejected), KvError.fail)
      place.revision = entry.modRevision
      // The lease that the key is on, which is another if the key has just moved; ours if a foreign write detached it.
      return proclaim(place, value, Option.getOrElse(entry.lease, () => held.lease))
    })
  })

const rejected = "a proclamation was rejected because it does not lead any more"
const outOfTime = "its time had run out"
