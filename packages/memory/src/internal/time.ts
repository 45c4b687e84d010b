/**
 * The time of a store: the monotonic time of an Effect `Clock` in milliseconds, and an alarm on it.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"

export class Time {
  readonly clock: Clock.Clock
  readonly #fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>

  constructor(clock: Clock.Clock, scheduler: Scheduler.Scheduler) {
    this.clock = clock
    // A context of its own: the store may outlive its maker, and must not retain the maker's spans and services.
    this.#fork = Effect.runForkWith(
      Context.make(Clock.Clock, clock).pipe(Context.add(Scheduler.Scheduler, scheduler))
    )
  }

  now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1_000_000
  }

  /** Calls `f` after that many milliseconds, rounded up and at least 1. Returns the function that cancels the call. */
  after(millis: number, f: () => void): () => void {
    const whole = Math.max(1, Math.ceil(millis))
    // A test clock wakes fibers that sleep until the same instant in the order in which they went to sleep. The last
    // millisecond is a sleep of its own, so that this fiber wakes after the others.
    const slept = whole === 1 ? this.#sleep(1) : Effect.andThen(this.#sleep(whole - 1), this.#sleep(1))
    const fiber = this.#fork(Effect.andThen(slept, Effect.sync(f)))
    return () => fiber.interruptUnsafe()
  }

  #sleep(millis: number): Effect.Effect<void> {
    return this.clock.sleep(Duration.millis(millis))
  }
}

/** The time of the environment. */
export const fromContext: Effect.Effect<Time> = Effect.gen(function*() {
  return new Time(yield* Clock.Clock, yield* Scheduler.Scheduler)
})

/** Calls a function at a given time. Holds a timer from `set` until then, or until `cancel`. */
export class Alarm {
  readonly #ring: () => void
  #set: { readonly at: number; cancel: () => void } | undefined = undefined

  constructor(ring: () => void) {
    this.#ring = ring
  }

  /**
   * Does nothing if the alarm is already set for that time or earlier. A function that is called too early sets it
   * again.
   */
  set(time: Time, at: number): void {
    if (this.#set !== undefined && this.#set.at <= at) return
    this.cancel()
    const alarm = { at, cancel: (): void => {} }
    this.#set = alarm
    alarm.cancel = time.after(at - time.now(), () => {
      if (this.#set !== alarm) return
      this.#set = undefined
      this.#ring()
    })
  }

  cancel(): void {
    this.#set?.cancel()
    this.#set = undefined
  }
}
