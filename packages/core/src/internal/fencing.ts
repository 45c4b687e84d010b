/**
 * The `Kv` that a lock's holder writes through: refused by the store once the lock is not held.
 */
import * as Effect from "effect/Effect"
import * as Compare from "../Compare.ts"
import type { Lock } from "../DistLock.ts"
import * as Fence from "../Fence.ts"
import type { Kv } from "../Kv.ts"
import type { KvBackend } from "../KvBackend.ts"
import * as KvError from "../KvError.ts"
import * as Op from "../Op.ts"
import * as acquisition from "./acquisition.ts"
import * as kvService from "./kvService.ts"

/** Locks and temporary keys within go on without the fence: giving back an inner lock must not need the outer one. */
export const fence = (kv: Kv, lock: Lock): Kv => {
  const rejected = (how: string) => Effect.flatMap(acquisition.lose(lock, how), KvError.fail)
  const conditions = lock.all.map(({ key, token }) => Compare.createRevision(key, "=", token))
  const guarded = Fence.guarded(conditions, rejected("a fenced write found that it is not held any more"))(kv.backend)
  const backend: KvBackend = {
    ...guarded,
    // What is known to be lost need not be asked for; and by its own clock a holder may know before the store.
    execute: (op) =>
      Op.isWrite(op)
        ? Effect.flatMap(lock.isHeld, (held) => held ? guarded.execute(op) : rejected("its time had run out"))
        : guarded.execute(op)
  }
  return kvService.make(backend, kv)
}
