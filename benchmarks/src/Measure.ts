/**
 * Closed-loop measurements: each of several callers sends its next call when the last one has responded.
 *
 * The subjects of a scenario take turns in short rounds against the same server, so other load on the machine affects
 * all of them. A row is the median of the rounds. Its ratio is the median of the ratios within each round.
 */
import * as Effect from "effect/Effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { type Round, type Row, rowsOf } from "./Row.ts"

/** One operation of a caller, in the subject's native form: no subject pays for being wrapped in another one's. */
export type Op =
  | { readonly effect: (caller: number) => Effect.Effect<unknown, unknown> }
  | { readonly promise: (caller: number) => Promise<unknown> }
  | { readonly sync: (caller: number) => unknown }
  | {
    /** The whole closed loop, in a process of its own that measures itself. */
    readonly loop: (inFlight: number, millis: number) => Effect.Effect<Round, unknown>
  }

/** What is measured. */
export type Subject = Op & { readonly name: string }

export interface Options {
  readonly rounds: number
  readonly millis: number
  /** Operations per reading of the clock, one of which is timed: reading the clock costs as much as reading a `Map`. */
  readonly every?: number
}

/** Lets the subjects take turns, forwards and backwards. The first one is the baseline. */
export const alternate = Effect.fnUntraced(function*(
  scenario: string,
  inFlight: number,
  subjects: ReadonlyArray<Subject>,
  options: Options
) {
  yield* warmUp(inFlight, subjects, options.millis / 2, options.every)
  return yield* takeTurns(
    scenario,
    inFlight,
    options.rounds,
    subjects.map((subject) => ({
      name: subject.name,
      round: closedLoop(subject, inFlight, options.millis, options.every)
    }))
  )
})

/** Runs each subject until its connection is open and its code is compiled. */
export const warmUp = (inFlight: number, subjects: ReadonlyArray<Subject>, millis: number, every?: number) =>
  Effect.forEach(subjects, (subject) => closedLoop(subject, inFlight, millis, every), { discard: true })

/** A subject that is measured as a whole. */
export interface Contestant<E, R> {
  readonly name: string
  readonly round: Effect.Effect<Round, E, R>
}

/** The same as {@link alternate} for subjects that are not loops of single operations. */
export const takeTurns = Effect.fnUntraced(function*<E, R>(
  scenario: string,
  inFlight: number,
  count: number,
  contestants: ReadonlyArray<Contestant<E, R>>
): Effect.fn.Return<ReadonlyArray<Row>, E, R> {
  const found = new Map<string, Array<Round>>(contestants.map(({ name }) => [name, []]))
  for (let i = 0; i < count; i++) {
    for (const { name, round } of i % 2 === 0 ? contestants : contestants.toReversed()) {
      collectGarbage()
      found.get(name)!.push(yield* round)
    }
  }
  return rowsOf(scenario, inFlight, found)
})

/** Runs one subject for a time. */
export const closedLoop = (
  subject: Subject,
  inFlight: number,
  millis: number,
  every = 1
): Effect.Effect<Round, unknown> =>
  Effect.suspend(() => {
    if ("loop" in subject) return subject.loop(inFlight, millis)
    const watch = new Stopwatch(millis, every)
    const callers = Array.from({ length: inFlight }, (_, caller) => caller)
    return Effect.map(
      "effect" in subject
        ? Effect.forEach(callers, effects(subject.effect, watch), { concurrency: "unbounded", discard: true })
        : "promise" in subject
        ? Effect.tryPromise(() => Promise.all(callers.map((caller) => promises(subject.promise, watch, caller))))
        : Effect.sync(() => calls(subject.sync, watch)),
      () => watch.stop()
    )
  })

const effects = (op: (caller: number) => Effect.Effect<unknown, unknown>, watch: Stopwatch) =>
  Effect.fnUntraced(function*(caller: number) {
    while (watch.runs) {
      const started = performance.now()
      yield* op(caller)
      watch.lap(started)
      for (let i = 1; i < watch.every; i++) yield* op(caller)
    }
  })

const promises = async (op: (caller: number) => Promise<unknown>, watch: Stopwatch, caller: number): Promise<void> => {
  while (watch.runs) {
    const started = performance.now()
    await op(caller)
    watch.lap(started)
    for (let i = 1; i < watch.every; i++) await op(caller)
  }
}

const calls = (op: (caller: number) => unknown, watch: Stopwatch): void => {
  while (watch.runs) {
    const started = performance.now()
    op(0)
    watch.lap(started)
    for (let i = 1; i < watch.every; i++) op(0)
  }
}

/** A stopwatch: counts operations, their time, and the CPU time of the process. */
export class Stopwatch {
  readonly every: number
  readonly #millis: number
  readonly #latencies: Array<number> = []
  readonly #cpu = process.cpuUsage()
  readonly started = performance.now()

  constructor(millis = Number.POSITIVE_INFINITY, every = 1) {
    this.#millis = millis
    this.every = every
  }

  get runs(): boolean {
    return performance.now() - this.started < this.#millis
  }

  /** Records that one operation has ended, the timed one of `every`. */
  lap(started: number): void {
    this.#latencies.push(performance.now() - started)
  }

  /** Records that `count` operations have ended that all started with the stopwatch. */
  arrived(count: number): void {
    const latency = performance.now() - this.started
    for (let i = 0; i < count; i++) this.#latencies.push(latency)
  }

  stop(): Round {
    const millis = performance.now() - this.started
    const { system, user } = process.cpuUsage(this.#cpu)
    const sorted = Float64Array.from(this.#latencies).sort()
    const count = sorted.length * this.every
    return {
      opsPerSecond: count / millis * 1000,
      p50Ms: sorted[Math.floor(sorted.length * 0.5)] ?? 0,
      p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
      cpuMicrosPerOp: (user + system) / count
    }
  }
}

/**
 * Collects garbage before each round, so that no subject pays for another one's. Only young garbage: a full collection
 * takes longer than a round, and would drop compiled code that has not been used since.
 */
export const collectGarbage: () => void = (() => {
  setFlagsFromString("--expose-gc")
  setFlagsFromString("--no-flush-bytecode")
  const gc = runInNewContext("gc") as (options: { readonly type: "minor" }) => void
  return () => gc({ type: "minor" })
})()
