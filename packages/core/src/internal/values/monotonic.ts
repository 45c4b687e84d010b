/**
 * Milliseconds of the monotonic clock. Durations use it because the wall clock may be set.
 */
import type * as Clock from "effect/Clock"

export const monotonicMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
