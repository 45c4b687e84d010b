/**
 * The time a store lives by: the monotonic side of an Effect `Clock`, in milliseconds, and one alarm on it.
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
    // Not the context of whoever made the store: the store may outlive it, and must not keep its spans and services.
    this.#fork = Effect.runForkWith(
      Context.make(Clock.Clock, clock).pipe(Context.add(Scheduler.Scheduler, scheduler))
    )
  }

  now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe()) / 1_000_000
  }

  /** Calls `f` in so many milliseconds, rounded up and at least 1; answers with what prevents it. */
  after(millis: number, f: () => void): () => void {
    const whole = Math.max(1, Math.ceil(millis))
    // A test clock wakes those who sleep until the same instant in the order they went to sleep. The last millisecond is
    // slept for itself, to be woken after them.
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

/** Calls back when a time has come. Holds a timer from `set` until then, or until `cancel`. */
export class Alarm {
  readonly #ring: () => void
  #set: { readonly at: number; cancel: () => void } | undefined = undefined

  constructor(ring: () => void) {
    this.#ring = ring
  }

  /** An alarm already set for as early a time stays: whoever is called back too early sets it again. */
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
