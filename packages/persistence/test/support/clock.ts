/**
 * A clock whose time of day the test sets, while sleeps take real time.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export interface SetClock {
  readonly clock: Clock.Clock
  /** Moves the time of day by that many milliseconds. */
  readonly move: (millis: number) => Effect.Effect<void>
}

/** A clock that begins at a time of day and stands still. */
export const make = (startMillis: number): Effect.Effect<SetClock> =>
  Effect.map(Clock.Clock, (real) => {
    let now = startMillis
    const nanos = (): bigint => BigInt(Math.round(now * 1_000_000))
    return {
      clock: {
        currentTimeMillisUnsafe: () => now,
        currentTimeMillis: Effect.sync(() => now),
        currentTimeNanosUnsafe: nanos,
        currentTimeNanos: Effect.sync(nanos),
        monotonicTimeNanosUnsafe: () => real.monotonicTimeNanosUnsafe(),
        monotonicTimeNanos: real.monotonicTimeNanos,
        sleep: (duration) => real.sleep(duration)
      },
      move: (millis) =>
        Effect.sync(() => {
          now += millis
        })
    }
  })
