/**
 * Deterministic simulation: many clients on one store, in a world whose every step is drawn from a seed, with faults; and
 * all that was seen of it judged by the checkers.
 *
 * For stores that live by Effect's `Clock` and `Scheduler` alone, as `MemoryStore` does: then a run takes milliseconds,
 * whatever time passes in it, and the same seed is the same run, to the last step. What is judged is the store, and
 * everything between it and the application: watches, sessions, locks, fences, and a function of backends of your own.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as LinearizabilityChecker from "../checkers/LinearizabilityChecker.ts"
import * as LockChecker from "../checkers/LockChecker.ts"
import * as RevisionChecker from "../checkers/RevisionChecker.ts"
import type * as Violation from "../checkers/Violation.ts"
import * as WatchChecker from "../checkers/WatchChecker.ts"
import * as Changes from "../history/Changes.ts"
import * as History from "../history/History.ts"
import * as Recorder from "../history/Recorder.ts"
import type { Options } from "./options.ts"
import * as story from "./run.ts"
import * as scenarios from "./scenario.ts"
import { type Ended, World } from "./World.ts"

export type { Options, Store } from "./options.ts"

/**
 * What goes wrong in a run; which it is, is drawn from the seed.
 *
 * `slow`: requests, answers and events take their time, watches are cut, and nothing is lost. `lossy`: connections
 * break, answers are lost or late, clients are cut off. `brutal`: processes are stopped, leases are revoked and history
 * is compacted as well; then a holder hears late that it has lost its lock, and only the fence protects.
 *
 * @since 0.1.0
 */
export type Weather = scenarios.Weather

/**
 * A run, and what was found wrong with it.
 *
 * @since 0.1.0
 */
export interface Run {
  readonly seed: number
  readonly weather: Weather
  readonly history: History.History
  /** Every change that the store made. */
  readonly changes: ReadonlyArray<Changes.Change>
  readonly violations: ReadonlyArray<Violation.Violation>
  /** How many turns it took: each a fiber that went on. */
  readonly turns: number
  /** How many faults were injected. */
  readonly faults: number
  /** The whole run as text; of two runs of one seed it is the same. */
  readonly trace: () => string
}

/**
 * Makes a run, and judges it.
 *
 * @example
 * ```ts
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Simulation } from "@effect-kv/test-suite/verification"
 *
 * const run = Simulation.run({ seed: 1, store: MemoryStore.make() })
 * run.violations // => []
 * ```
 *
 * @since 0.1.0
 */
export const run = (options: Options): Run => {
  const weather = scenarios.weatherOf(options.seed)
  const world = new World(options.seed)
  const notes: story.Notes = {
    clients: Effect.runSync(Recorder.make),
    store: Effect.runSync(Recorder.make),
    faults: []
  }
  const ended = world.run(story.tell(world, weather, options, notes))
  const end = ended._tag === "Done" && Exit.isSuccess(ended.exit) ? ended.exit.value : undefined
  const history = end?.history ?? Effect.runSync(notes.clients.history)
  const changes = Changes.fromBatches(
    Effect.runSync(notes.store.history).watches.flatMap((watch) => watch.batches)
  )
  return {
    seed: options.seed,
    weather,
    history,
    changes,
    violations: end === undefined ? [notTold(ended)] : judge(options.seed, history, changes, weather, end),
    turns: world.turns,
    faults: notes.faults.length,
    trace: () =>
      stable(
        [
          `${weather}, ${world.turns} turns, ${world.now} ms`,
          ...notes.faults,
          ...changes.map((change) => `${change.modRevision} ${change.type} ${change.key} ${change.version}`),
          History.toText(history)
        ].join("\n"),
        history
      )
  }
}

const judge = (
  seed: number,
  history: History.History,
  changes: ReadonlyArray<Changes.Change>,
  weather: Weather,
  { compactedAt, counts, leftBehind, notLasting, revision }: story.End
): ReadonlyArray<Violation.Violation> => [
  ...leftBehind.map((what): Violation.Violation => ({ kind: "LeftBehind", message: what, records: [] })),
  ...notLasting.map((what): Violation.Violation => ({ kind: "NotLasting", message: what, records: [] })),
  ...history.calls.flatMap((call) => untimely(call, weather)),
  ...weather === "slow" ? history.calls.flatMap(needless) : [],
  ...RevisionChecker.check(history, changes, { foreignLease: () => weather === "brutal" }).violations,
  // It takes no revision at its word. But it takes long, and what it finds the other does too, unless that is wrong.
  ...seed % 4 === 0 && scenarios.isOrderable(seed) ? LinearizabilityChecker.check(history) : [],
  ...WatchChecker.check(history, changes, {
    compactedAt,
    readUpTo: (watch) => watch.ended === undefined ? revision : undefined
  }),
  ...LockChecker.check(history, { changes, counts }).filter(({ kind }) => weather !== "brutal" || !isLateLoss(kind))
]

/** Where nothing is lost, and nothing takes long, every call is answered. */
const needless = ({ id, outcome }: History.Call): ReadonlyArray<Violation.Violation> =>
  outcome._tag === "Failed" && ["Unavailable", "DeadlineExceeded", "Indeterminate"].includes(outcome.reason)
    ? [{ kind: "NeedlessFailure", message: outcome.message, records: [id] }]
    : []

/** Calls end, by their deadline at the latest, unless their process is stopped. No client says another than the default. */
const untimely = ({ completed, id, invoked }: History.Call, weather: Weather): ReadonlyArray<Violation.Violation> => {
  if (completed === undefined) return [{ kind: "Hanging", message: "a call has not ended", records: [id] }]
  const millis = Number(completed.nanos - invoked.nanos) / 1e6
  return weather === "brutal" || millis <= Duration.toMillis(Deadline.defaultDeadline) + 1
    ? []
    : [{ kind: "Overdue", message: `a call took ${millis} ms`, records: [id] }]
}

/** What a holder, or who is about to be one, cannot know in time when it was stopped or its lease was revoked. */
const isLateLoss = (kind: LockChecker.Kind): boolean => kind === "OverlappingHolders" || kind === "TokenOrder"

const notTold = (ended: Ended<unknown, unknown>): Violation.Violation => {
  switch (ended._tag) {
    case "Done":
      return {
        kind: "Died",
        message: Exit.isFailure(ended.exit) ? Cause.pretty(ended.exit.cause) : "",
        records: []
      }
    case "Stuck":
      return { kind: "Stuck", message: "somebody waits for what will never come", records: [] }
    case "Endless":
      return { kind: "Endless", message: "it does not come to an end", records: [] }
  }
}

/**
 * Lease ids are drawn by the library from what no seed decides; they are numbered here, in the order they were asked for.
 * That may be a revocation: of a lease whose grant was given up before it was sent.
 */
const stable = (trace: string, history: History.History): string => {
  const names = new Map<string, string>()
  for (const { request } of history.calls) {
    if (request._tag === "Execute" || request.id === undefined) continue
    for (const name of [request.id.toString(), request.id.toString(16)]) {
      if (!names.has(name)) names.set(name, `<lease ${names.size >> 1}>`)
    }
  }
  return names.size === 0
    ? trace
    : trace.replaceAll(new RegExp([...names.keys()].join("|"), "g"), (name) => names.get(name)!)
}
