/**
 * The fence of a lock.
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
import * as acquisition from "./acquisition.ts"
import type { Lock } from "./model.ts"

const fences = new WeakMap<Lock, Fence.Fence>()

/** The lock's fence in the client it was acquired with, always the same; `undefined` if it was not acquired here. */
export const of = (lock: Lock): Fence.Fence | undefined => {
  const kv = acquisition.kvOf(lock)
  if (kv === undefined) return undefined
  const known = fences.get(lock)
  if (known !== undefined) return known
  const fence = fenceIn(kv, lock, Effect.flatMap(acquisition.lose(lock, refused), KvError.fail))
  fences.set(lock, fence)
  return fence
}

/**
 * The lock's fence in the client of that `Kv`. In a client other than its own the key may be missing because it never was
 * there, so that alone does not count as a loss: the client that acquired the lock is asked.
 */
export const inKv = (kv: Kv, lock: Lock): Fence.Fence => {
  const own = acquisition.kvOf(lock)
  if (own !== undefined && internals.of(own).origin.client === internals.of(kv).origin.client) return of(lock)!
  const rejected = KvError.fail(new LockLost({ lock: lock.name, token: lock.token, how: refused }))
  return fenceIn(kv, lock, own === undefined ? rejected : Effect.andThen(loseIfGone(own, lock), rejected))
}

const refused = "a fenced write found that it is not held any more"

const fenceIn = (kv: Kv, lock: Lock, rejected: Fence.Fence["rejected"]): Fence.Fence =>
  Fence.make(kv, {
    conditions: conditionsOf(lock),
    isHeldUnsafe: lock.isHeldUnsafe,
    notHeld: notHeld(lock),
    rejected
  })

const conditionsOf = (lock: Lock): ReadonlyArray<Compare.Compare> =>
  lock.all.map(({ key, token }) => Compare.createRevision(key, "=", token))

const notHeld = (lock: Lock): Fence.Fence["notHeld"] =>
  Effect.flatMap(acquisition.lose(lock, "its time had run out"), ({ how, lock, token }) =>
    KvError.fail(
      new LockLost({ lock, token, how: `${how} (start work that must outlive the lock with Fence.unfenced)` })
    ))

const loseIfGone = (own: Kv, lock: Lock): Effect.Effect<void> =>
  execute(internals.of(own).unfenced, Op.txn({ if: conditionsOf(lock) })).pipe(
    Effect.flatMap(({ succeeded }) => succeeded ? Effect.void : acquisition.lose(lock, refused)),
    Effect.ignore
  )
