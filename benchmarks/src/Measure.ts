/**
 * Closed-loop measurements: so many callers, each making its next call when the last has answered.
 *
 * Subjects of a scenario take turns in short rounds against the same server, so that what else the machine does hits them
 * alike. A row is the median of the rounds; its ratio is the median of the ratios within each round.
 */
import * as Effect from "effect/Effect"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { type Round, type Row, rowsOf } from "./Row.ts"

/** One operation of a caller, in the subject's own way: nobody pays for being wrapped in another's. */
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
  /** Operations between two looks at the clock, one of which is timed: a look costs as much as a read of a `Map`. */
  readonly every?: number
}

/** Lets the subjects take turns, forwards and backwards. The first is what the others are compared with. */
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

/** Lets each run until its connection is open and its code compiled. */
export const warmUp = (inFlight: number, subjects: ReadonlyArray<Subject>, millis: number, every?: number) =>
  Effect.forEach(subjects, (subject) => closedLoop(subject, inFlight, millis, every), { discard: true })

/** Something that is measured as a whole. */
export interface Contestant<E, R> {
  readonly name: string
  readonly round: Effect.Effect<Round, E, R>
}

/** As {@link alternate}, for what is not a loop of single operations. */
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

/** One subject for so long. */
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

/** Counts operations, their time and the process's CPU from when it is made until it is stopped. */
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

  /** One operation is over, of `every` that are not timed. */
  lap(started: number): void {
    this.#latencies.push(performance.now() - started)
  }

  /** `count` operations are over that have all begun with the stopwatch. */
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
 * Before each round, so that nobody pays for another's fresh garbage; and nobody's code goes, for not having been used since.
 * Only the young, as what is old takes longer to look through than a round does.
 */
const collectGarbage: () => void = (() => {
  setFlagsFromString("--expose-gc")
  setFlagsFromString("--no-flush-bytecode")
  const gc = runInNewContext("gc") as (options: { readonly type: "minor" }) => void
  return () => gc({ type: "minor" })
})()
