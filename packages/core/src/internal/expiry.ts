/**
 * When a lease ends, by the clocks of this machine: the monotonic or the wall clock, whichever says so first.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"

/** A moment on both clocks. */
export interface Instant {
  readonly monotonicMillis: number
  readonly wallMillis: number
}

export const now = (clock: Clock.Clock): Instant => ({
  monotonicMillis: Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000,
  wallMillis: clock.currentTimeMillisUnsafe()
})

/** Counted from when the request was sent: the store counts from when it arrived, which is later. */
export const after = (sent: Instant, ttl: Duration.Duration): Instant => ({
  monotonicMillis: sent.monotonicMillis + Duration.toMillis(ttl),
  wallMillis: sent.wallMillis + Duration.toMillis(ttl)
})

export const remainingMillis = (clock: Clock.Clock, expires: Instant): number => {
  const at = now(clock)
  return Math.min(expires.monotonicMillis - at.monotonicMillis, expires.wallMillis - at.wallMillis)
}
