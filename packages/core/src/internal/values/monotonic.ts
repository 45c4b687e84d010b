/**
 * Milliseconds of the monotonic clock: for durations, which a wall clock that is set must not change.
 */
import type * as Clock from "effect/Clock"

export const monotonicMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000
