/**
 * The end of a lease by the clocks of this machine: the monotonic or the wall clock, whichever reaches it first.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import { monotonicMillis } from "../values/monotonic.ts"

/** A moment on both clocks. */
export interface Instant {
  readonly monotonicMillis: number
  readonly wallMillis: number
}

export const now = (clock: Clock.Clock): Instant => ({
  monotonicMillis: monotonicMillis(clock),
  wallMillis: clock.currentTimeMillisUnsafe()
})

/** Counted from the time the request was sent. The store counts from its arrival, which is later. */
export const after = (sent: Instant, ttl: Duration.Duration): Instant => ({
  monotonicMillis: sent.monotonicMillis + Duration.toMillis(ttl),
  wallMillis: sent.wallMillis + Duration.toMillis(ttl)
})

/**
 * The time left, rounded down to whole microseconds. Floating-point arithmetic can leave a remainder too short to sleep
 * for, and under a test clock, which only advances sleepers, a loop that waits it out would never end.
 */
export const remainingMillis = (clock: Clock.Clock, expires: Instant): number => {
  const at = now(clock)
  const remaining = Math.min(expires.monotonicMillis - at.monotonicMillis, expires.wallMillis - at.wallMillis)
  return Math.floor(remaining * 1000) / 1000
}
