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

/**
 * How long a lease is relied on after its last renewal: its TTL less a tenth, at most one second. The rest is for the
 * holder that loses it: it is interrupted, and its finalizers start, while the store still keeps its keys.
 */
export const reliableMillis = (ttl: Duration.Duration): number => {
  const millis = Duration.toMillis(ttl)
  return millis - Math.min(millis / 10, 1000)
}

/** Counted from the time the request was sent. The store counts from its arrival, which is later. */
export const after = (sent: Instant, ttl: Duration.Duration): Instant => ({
  monotonicMillis: sent.monotonicMillis + reliableMillis(ttl),
  wallMillis: sent.wallMillis + reliableMillis(ttl)
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
