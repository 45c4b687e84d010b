/**
 * A world in which nothing is left to chance: its time passes when nobody has anything to do, and who goes on next, of all
 * who could, is drawn from a seed. The same seed, the same story.
 *
 * A fiber may be made to give way at any of its steps, so what can happen between two of them does, sooner or later. Each
 * process of the world has its own clock, and can be stopped as by a pause for garbage collection, a machine that sleeps or
 * SIGSTOP: it does nothing, hears nothing, and finds that time has passed.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import { below, type Draw, seeded } from "../../internal/seeded.ts"

/** How an effect ended. `Stuck`: nobody had anything to do, ever again. `Endless`: it took more steps than it may. */
export type Ended<A, E> =
  | { readonly _tag: "Done"; readonly exit: Exit.Exit<A, E> }
  | { readonly _tag: "Stuck" }
  | { readonly _tag: "Endless" }

/** A program of the world. */
export interface Process {
  /** Runs an effect as a part of the process: by its clock, and stopped with it. */
  readonly within: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Stops it: from now on it does nothing. */
  readonly stop: Effect.Effect<void>
  /** Lets it go on. */
  readonly resume: Effect.Effect<void>
}

/** Something that can be done now. */
interface Task {
  readonly owner: Owner
  readonly run: () => void
}

/** Somebody who sleeps. */
interface Sleeper {
  readonly owner: Owner
  /** In nanoseconds: whole numbers, so that time goes on however short a sleep is. */
  readonly until: number
  readonly wake: () => void
}

/** A process, with what it would do if it were not stopped. */
class Owner {
  isStopped = false
  readonly tasks: Array<Task> = []
  readonly overdue: Array<Sleeper> = []
}

const nanosPerMilli = 1_000_000

export class World {
  /** How many turns there were: a fingerprint of the whole story. */
  turns = 0
  readonly #draw: Draw
  readonly #tasks: Array<Task> = []
  /** Sorted, the next to wake last; of the same instant the first to go to sleep is the first to wake. */
  readonly #sleepers: Array<Sleeper> = []
  /** A fiber gives way after so many steps at most; in some worlds often, in others seldom. */
  readonly #longestRun: number
  #untilYield: number
  #now = 0

  constructor(seed: number) {
    this.#draw = seeded(seed, "world")
    this.#longestRun = 25 << below(this.#draw, 6)
    this.#untilYield = this.#longestRun
  }

  /** The time, in milliseconds since the world began. */
  get now(): number {
    return this.#now / nanosPerMilli
  }

  /** A process of its own. `Random` in it is drawn from the seed and the name. */
  process(seed: number, name: string): Process {
    const owner = new Owner()
    const draw = seeded(seed, name)
    const context = Context.make(Scheduler.Scheduler, this.#schedulerOf(owner)).pipe(
      // Thousands of runs lose thousands of locks. What a run did is in its history.
      Context.add(References.MinimumLogLevel, "None"),
      Context.add(Clock.Clock, this.#clockOf(owner)),
      Context.add(Random.Random, {
        nextDoubleUnsafe: draw,
        nextIntUnsafe: () => Math.floor((draw() * 2 - 1) * Number.MAX_SAFE_INTEGER)
      })
    )
    return {
      within: Effect.provideContext(context) as Process["within"],
      stop: Effect.sync(() => this.#stop(owner)),
      resume: Effect.sync(() => this.#resume(owner))
    }
  }

  /** Runs an effect to its end, with everything that it starts: at once, synchronously. */
  run<A, E>(effect: Effect.Effect<A, E>, mostTurns = 200_000): Ended<A, E> {
    const fiber = Effect.runFork(effect)
    while (true) {
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return { _tag: "Done", exit }
      if (this.turns++ > mostTurns) return { _tag: "Endless" }
      if (!this.#takeTurn() && !this.#wakeNext()) return { _tag: "Stuck" }
    }
  }

  #takeTurn(): boolean {
    const tasks = this.#tasks
    if (tasks.length === 0) return false
    const chosen = below(this.#draw, tasks.length)
    const task = tasks[chosen]!
    const last = tasks.pop()!
    if (chosen < tasks.length) tasks[chosen] = last
    task.run()
    return true
  }

  /** One at a time, and not before everybody else has done what they can: as a timer of a real program. */
  #wakeNext(): boolean {
    const sleeper = this.#sleepers.pop()
    if (sleeper === undefined) return false
    this.#now = Math.max(this.#now, sleeper.until)
    if (sleeper.owner.isStopped) sleeper.owner.overdue.push(sleeper)
    else sleeper.wake()
    return true
  }

  #stop(owner: Owner): void {
    owner.isStopped = true
    for (let i = 0; i < this.#tasks.length;) {
      const task = this.#tasks[i]!
      if (task.owner !== owner) i++
      else owner.tasks.push(...this.#tasks.splice(i, 1))
    }
  }

  #resume(owner: Owner): void {
    owner.isStopped = false
    this.#tasks.push(...owner.tasks.splice(0))
    for (const sleeper of owner.overdue.splice(0)) this.#sleep({ ...sleeper, until: this.#now })
  }

  #schedulerOf(owner: Owner): Scheduler.Scheduler {
    const dispatcher: Scheduler.SchedulerDispatcher = {
      scheduleTask: (run) => {
        const task = { owner, run }
        if (owner.isStopped) owner.tasks.push(task)
        else this.#tasks.push(task)
      },
      flush: () => {}
    }
    return {
      executionMode: "async",
      shouldYield: () => {
        if (--this.#untilYield > 0) return false
        this.#untilYield = 1 + below(this.#draw, this.#longestRun)
        return true
      },
      makeDispatcher: () => dispatcher
    }
  }

  #clockOf(owner: Owner): Clock.Clock {
    const millis = () => this.now
    const nanos = () => BigInt(this.#now)
    return {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: nanos,
      monotonicTimeNanos: Effect.sync(nanos),
      sleep: (duration) => {
        const length = Math.ceil(Duration.toMillis(duration) * nanosPerMilli)
        if (length <= 0) return Effect.yieldNow
        if (!Number.isFinite(length)) return Effect.never
        return Effect.callback<void>((resume) => {
          const sleeper = { owner, until: this.#now + length, wake: () => resume(Effect.void) }
          this.#sleep(sleeper)
          return Effect.sync(() => this.#forget(sleeper))
        })
      }
    }
  }

  #sleep(sleeper: Sleeper): void {
    const sleepers = this.#sleepers
    let low = 0
    let high = sleepers.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (sleepers[middle]!.until > sleeper.until) low = middle + 1
      else high = middle
    }
    sleepers.splice(low, 0, sleeper)
  }

  #forget(sleeper: Sleeper): void {
    for (const sleepers of [this.#sleepers, sleeper.owner.overdue]) {
      const place = sleepers.findIndex(({ wake }) => wake === sleeper.wake)
      if (place >= 0) return void sleepers.splice(place, 1)
    }
  }
}
