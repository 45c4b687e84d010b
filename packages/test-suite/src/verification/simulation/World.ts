/**
 * A deterministic world for fibers: a seed draws which runnable fiber continues next, and time passes when none is runnable.
 * The same seed gives the same run.
 *
 * A fiber may have to yield at any of its steps, so every interleaving occurs sooner or later. Each process of the world has
 * its own clock and can be stopped, like a process in a long garbage collection, on a sleeping machine or after SIGSTOP. When
 * it resumes, time has passed.
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

/** The end of an effect. `Stuck`: no fiber was runnable or asleep. `Endless`: it took more turns than allowed. */
export type Ended<A, E> =
  | { readonly _tag: "Done"; readonly exit: Exit.Exit<A, E> }
  | { readonly _tag: "Stuck" }
  | { readonly _tag: "Endless" }

/** A process of the world. */
export interface Process {
  /** Runs an effect in the process: with its clock, and stopped with it. */
  readonly within: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Stops the process until it resumes. */
  readonly stop: Effect.Effect<void>
  /** Resumes the process. */
  readonly resume: Effect.Effect<void>
}

/** A runnable task. */
interface Task {
  readonly owner: ProcessState
  readonly run: () => void
}

/** A sleeping fiber. */
interface Sleeper {
  readonly owner: ProcessState
  /** In whole nanoseconds, so that even the shortest sleep advances time. */
  readonly until: number
  readonly wake: () => void
}

/** A process, and its tasks and sleepers that are due while it is stopped. */
class ProcessState {
  isStopped = false
  readonly tasks: Array<Task> = []
  readonly overdue: Array<Sleeper> = []
}

const nanosPerMilli = 1_000_000

export class World {
  /** The number of turns so far: a fingerprint of the run. */
  turns = 0
  readonly #draw: Draw
  readonly #tasks: Array<Task> = []
  /** Sorted, the next to wake is last. At the same instant the first to fall asleep wakes first. */
  readonly #sleepers: Array<Sleeper> = []
  /** The most steps a fiber makes before it yields: few in some worlds, many in others. */
  readonly #longestRun: number
  #untilYield: number
  #now = 0

  constructor(seed: number) {
    this.#draw = seeded(seed, "world")
    this.#longestRun = 25 << below(this.#draw, 6)
    this.#untilYield = this.#longestRun
  }

  /** The time in milliseconds since the start of the world. */
  get now(): number {
    return this.#now / nanosPerMilli
  }

  /** A new process. Its `Random` is drawn from the seed and the name. */
  process(seed: number, name: string): Process {
    const owner = new ProcessState()
    const draw = seeded(seed, name)
    const context = Context.make(Scheduler.Scheduler, this.#schedulerOf(owner)).pipe(
      // Thousands of runs would log thousands of lost locks. The history has what a run did.
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

  /** Runs an effect and all fibers it starts, synchronously, until the effect ends. */
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

  /** Wakes one sleeper, only if no task is runnable, like a timer of a real program. */
  #wakeNext(): boolean {
    const sleeper = this.#sleepers.pop()
    if (sleeper === undefined) return false
    this.#now = Math.max(this.#now, sleeper.until)
    if (sleeper.owner.isStopped) sleeper.owner.overdue.push(sleeper)
    else sleeper.wake()
    return true
  }

  #stop(owner: ProcessState): void {
    owner.isStopped = true
    for (let i = 0; i < this.#tasks.length;) {
      const task = this.#tasks[i]!
      if (task.owner !== owner) i++
      else owner.tasks.push(...this.#tasks.splice(i, 1))
    }
  }

  #resume(owner: ProcessState): void {
    owner.isStopped = false
    this.#tasks.push(...owner.tasks.splice(0))
    for (const sleeper of owner.overdue.splice(0)) this.#sleep({ ...sleeper, until: this.#now })
  }

  #schedulerOf(owner: ProcessState): Scheduler.Scheduler {
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
      shouldYield: ({ currentOpCount }) => {
        if (--this.#untilYield > 0) return false
        // Effect's own schedulers never yield before the first step. A fiber that is interrupted before it has started would
        // start all the same, and forget the interruption.
        if (currentOpCount <= 1) return false
        this.#untilYield = 1 + below(this.#draw, this.#longestRun)
        return true
      },
      makeDispatcher: () => dispatcher
    }
  }

  #clockOf(owner: ProcessState): Clock.Clock {
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
