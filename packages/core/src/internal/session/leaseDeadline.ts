/**
 * When a lease ends, by the clocks of this machine: the monotonic or the wall clock, whichever says so first.
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

/** Counted from when the request was sent: the store counts from when it arrived, which is later. */
export const after = (sent: Instant, ttl: Duration.Duration): Instant => ({
  monotonicMillis: sent.monotonicMillis + Duration.toMillis(ttl),
  wallMillis: sent.wallMillis + Duration.toMillis(ttl)
})

/**
 * In whole microseconds, rounded down. What is left by the rounding of floating-point numbers is no time: who slept for so
 * long would not sleep at all, and by a clock that moves only while somebody sleeps would do so for ever.
 */
export const remainingMillis = (clock: Clock.Clock, expires: Instant): number => {
  const at = now(clock)
  const remaining = Math.min(expires.monotonicMillis - at.monotonicMillis, expires.wallMillis - at.wallMillis)
  return Math.floor(remaining * 1000) / 1000
}
