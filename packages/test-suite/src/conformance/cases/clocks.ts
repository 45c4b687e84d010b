/**
 * Wall clocks that a case moves by hand, one for each machine that it plays. The store and its sessions have their own.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

export class HandClock implements Clock.Clock {
  #millis: number
  readonly #sleepers = new Set<{ readonly due: number; readonly wake: () => void }>()

  constructor(millis: number) {
    this.#millis = millis
  }

  /** Moves the clock and wakes those whose time has come. */
  advance(duration: Duration.Input): Effect.Effect<void> {
    return Effect.sync(() => {
      this.#millis += Duration.toMillis(Duration.fromInputUnsafe(duration))
      for (const sleeper of this.#sleepers) if (sleeper.due <= this.#millis) sleeper.wake()
    })
  }

  /** How many fibers sleep on it. */
  get sleepers(): number {
    return this.#sleepers.size
  }

  currentTimeMillisUnsafe(): number {
    return this.#millis
  }

  currentTimeNanosUnsafe(): bigint {
    return BigInt(this.#millis) * 1_000_000n
  }

  monotonicTimeNanosUnsafe(): bigint {
    return this.currentTimeNanosUnsafe()
  }

  readonly currentTimeMillis = Effect.sync(() => this.currentTimeMillisUnsafe())
  readonly currentTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos = Effect.sync(() => this.monotonicTimeNanosUnsafe())

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const sleeper = {
        due: this.#millis + Duration.toMillis(duration),
        wake: () => {
          this.#sleepers.delete(sleeper)
          resume(Effect.void)
        }
      }
      this.#sleepers.add(sleeper)
      if (sleeper.due <= this.#millis) sleeper.wake()
      return Effect.sync(() => this.#sleepers.delete(sleeper))
    })
  }
}

/** Runs an effect on this clock. */
export const by = (clock: Clock.Clock) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, clock)
