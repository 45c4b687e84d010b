/**
 * The fence of a lock, for the client that acquired the lock and for other clients.
 */
import * as Effect from "effect/Effect"
import { execute } from "../../backend/KvBackend.ts"
import * as Fence from "../../service/Fence.ts"
import type { Kv } from "../../service/KvService.ts"
import * as Compare from "../../values/Compare.ts"
import * as KvError from "../../values/KvError.ts"
import { LockLost } from "../../values/LockError.ts"
import * as Op from "../../values/Op.ts"
import * as internals from "../kv/internals.ts"
import type { HeldLock } from "./heldLock.ts"
import * as heldLock from "./heldLock.ts"
import type { MultiLock } from "./model.ts"

/** The lock's fence in the client it was acquired with: always the same object. */
export const of = (lock: HeldLock): Fence.Fence =>
  lock.fence(() =>
    Fence.make(lock.kv, {
      conditions: conditionsOf(lock),
      isHeldUnsafe: lock.isHeldUnsafe,
      notHeld: Effect.suspend(() => Effect.flatMap(lock.loseOutOfTime, failNotHeld)),
      rejected: Effect.suspend(() => Effect.flatMap(lock.lose(rejectedWrite), KvError.fail))
    })
  )

/**
 * The lock's fence in the client of that `Kv`. Another client may see another store or namespace, in which the key
 * never existed. So a write that is rejected there does not prove a loss: the client that acquired the lock checks the
 * key.
 */
export const inKv = (kv: Kv, lock: MultiLock): Fence.Fence => {
  const held = heldLock.from(lock)
  if (held !== undefined && internals.of(held.kv).origin.client === internals.of(kv).origin.client) return of(held)
  const loss = (reason: string) => new LockLost({ ...heldLock.namesOf(lock), reason })
  const rejected = KvError.fail(loss(rejectedWrite))
  return Fence.make(kv, {
    conditions: conditionsOf(lock),
    isHeldUnsafe: lock.isHeldUnsafe,
    notHeld: Effect.flatMap(
      held === undefined ? Effect.sync(() => loss(outOfTime)) : held.loseOutOfTime,
      failNotHeld
    ),
    rejected: held === undefined ? rejected : Effect.andThen(loseIfGone(held), rejected)
  })
}

const rejectedWrite = "a fenced write was rejected because the key is gone"
const outOfTime = "its lease could not be renewed in time"

const conditionsOf = (lock: MultiLock): ReadonlyArray<Compare.Compare> =>
  lock.parts.map(({ key, token }) => Compare.createRevision(key, "=", token))

const failNotHeld = ({ kind, lock, reason, token }: LockLost): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(
    new LockLost({
      kind,
      lock,
      token,
      reason: `${reason} (start work that must outlive the ${kind} with Fence.unfenced)`
    })
  )

const loseIfGone = (lock: HeldLock): Effect.Effect<void> =>
  execute(internals.of(lock.kv).unfenced, Op.txn({ if: conditionsOf(lock) })).pipe(
    Effect.flatMap(({ succeeded }) => succeeded ? Effect.void : lock.lose(rejectedWrite)),
    Effect.ignore
  )
