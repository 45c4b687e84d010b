/**
 * Puts the methods of a `Kv` together.
 */
import type { Kv } from "../Kv.ts"
import type { Fence } from "./currentFences.ts"
import * as data from "./data.ts"
import { described } from "./described.ts"
import * as guard from "./guard.ts"
import type { SessionPool } from "./sessionPool.ts"
import * as storeClock from "./storeClock.ts"
import * as temporaryKey from "./temporaryKey.ts"
import * as watching from "./watching.ts"

export const make = (origin: guard.Origin, sessions: SessionPool): Kv => {
  const backend = storeClock.keeps(sessions.onClock, described(guard.guarded(origin)))
  const bookkeeping = storeClock.keeps(sessions.onClock, described(guard.unguarded(origin.raw)))
  const watches = watching.make(backend)
  return {
    "~@effect-kv/core/Kv": "~@effect-kv/core/Kv",
    origin,
    backend,
    bookkeeping,
    sessions,
    ...data.make(backend, origin),
    ...watches,
    latest: (range) => sessions.onClock(watches.latest(range)),
    tempKey: (key, options) =>
      sessions.onClock(temporaryKey.open({ make: backend, bookkeeping, prefix: origin.prefix }, sessions, key, options))
  }
}
/** The `Kv` with a fence on each of its writes, whichever fiber makes it. */
export const withFence = (kv: Kv, fence: Fence): Kv =>
  make({ ...kv.origin, fences: [...kv.origin.fences, fence] }, kv.sessions)
