/**
 * Puts the methods of a `Kv` together.
 */
import type { Kv } from "../../service/KvService.ts"
import type { Fence } from "../fence/currentFences.ts"
import type { SessionPool } from "../session/sessionPool.ts"
import * as temporaryKey from "../tempKey/tempKey.ts"
import * as watching from "../watch/kvWatch.ts"
import * as data from "./data.ts"
import { described } from "./describedErrors.ts"
import * as guard from "./guard.ts"
import * as storeClock from "./storeClock.ts"

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
    view: (range) => sessions.onClock(watches.view(range)),
    tempKey: (key, options) =>
      sessions.onClock(temporaryKey.open({ make: backend, bookkeeping, prefix: origin.prefix }, sessions, key, options))
  }
}
/** The `Kv` with a fence on each of its writes, whichever fiber makes it. */
export const withFence = (kv: Kv, fence: Fence): Kv =>
  make({ ...kv.origin, fences: [...kv.origin.fences, fence] }, kv.sessions)
