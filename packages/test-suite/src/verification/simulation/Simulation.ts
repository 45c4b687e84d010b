/**
 * Deterministic simulation: many clients of one store under faults, with every step drawn from a seed. The checkers check the
 * history of each run.
 *
 * It is for stores whose only clock and scheduler are Effect's `Clock` and `Scheduler`, such as `MemoryStore`. A run then takes
 * milliseconds, however much simulated time passes, and the same seed gives the same run, to the last step. It tests the store
 * and everything between it and the application: watches, sessions, locks, fences, and your own functions from backend to
 * backend.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as LinearizabilityChecker from "../checkers/LinearizabilityChecker.ts"
import * as LockChecker from "../checkers/LockChecker.ts"
import * as RevisionChecker from "../checkers/RevisionChecker.ts"
import * as TickChecker from "../checkers/TickChecker.ts"
import type * as Violation from "../checkers/Violation.ts"
import * as WatchChecker from "../checkers/WatchChecker.ts"
import * as Changes from "../history/Changes.ts"
import * as History from "../history/History.ts"
import * as Recorder from "../history/Recorder.ts"
import * as Workload from "../workload/Workload.ts"
import type { Options } from "./options.ts"
import * as Proclamations from "./proclamations.ts"
import * as Recipes from "./recipes.ts"
import * as simulation from "./run.ts"
import * as scenarios from "./scenario.ts"
import { type Ended, World } from "./World.ts"

export type { Options, Store } from "./options.ts"

/**
 * The faults of a run. The seed selects the profile.
 *
 * - `slow`: requests, responses and events are delayed, watches are cut, and nothing is lost.
 * - `lossy`: connections break, responses are lost or late, clients are partitioned.
 * - `brutal`: also, processes are stopped, leases are revoked and the history is compacted. A holder may then learn
 *   late that it has lost its lock, and only the fence protects.
 *
 * @since 0.1.0
 */
export type FaultProfile = scenarios.FaultProfile

/**
 * A run and its violations.
 *
 * @since 0.1.0
 */
export interface Run {
  readonly seed: number
  readonly faultProfile: FaultProfile
  readonly history: History.History
  /** All changes of the store. */
  readonly changes: ReadonlyArray<Changes.Change>
  readonly violations: ReadonlyArray<Violation.Violation>
  /** How many turns it took. In each turn one fiber continues. */
  readonly turns: number
  /** The number of injected faults. */
  readonly faults: number
  /** The whole run as text, equal for two runs of one seed. */
  readonly trace: () => string
}

/**
 * Makes a run and checks it.
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
  const profile = scenarios.faultProfileOf(options.seed)
  const world = new World(options.seed)
  const records: simulation.RunRecords = {
    clients: Effect.runSync(Recorder.make),
    store: Effect.runSync(Recorder.make),
    faults: []
  }
  const ended = world.run(simulation.simulate(world, profile, options, records))
  const end = ended._tag === "Done" && Exit.isSuccess(ended.exit) ? ended.exit.value : undefined
  const history = end?.history ?? Effect.runSync(records.clients.history)
  const changes = Changes.fromBatches(
    Effect.runSync(records.store.history).watches.flatMap((watch) => watch.batches)
  )
  return {
    seed: options.seed,
    faultProfile: profile,
    history,
    changes,
    violations: end === undefined ? [unfinished(ended)] : violationsOf(options.seed, history, changes, profile, end),
    turns: world.turns,
    faults: records.faults.length,
    trace: () =>
      stable(
        [
          `${profile}, ${world.turns} turns, ${world.now} ms`,
          ...records.faults,
          ...changes.map((change) => `${change.modRevision} ${change.type} ${change.key} ${change.version}`),
          History.toText({ ...history, calls: history.calls.map(inOrderOfCreation) })
        ].join("\n"),
        history
      )
  }
}

const violationsOf = (
  seed: number,
  history: History.History,
  changes: ReadonlyArray<Changes.Change>,
  profile: FaultProfile,
  { begun, compactedAt, counts, leftBehind, brokenInvariants, recipes, revision }: simulation.End
): ReadonlyArray<Violation.Violation> => [
  ...leftBehind.map((what): Violation.Violation => ({ kind: "LeftBehind", message: what, records: [] })),
  ...[
    ...brokenInvariants,
    ...Recipes.wrongRounds(changes, simulation.prefix, recipes.processes),
    ...Recipes.staleWrites(changes, simulation.prefix),
    ...Proclamations.late(changes, simulation.prefix)
  ].map((
    what
  ): Violation.Violation => ({ kind: "BrokenInvariant", message: what, records: [] })),
  ...history.calls.flatMap((call) => lateCalls(call, profile)),
  ...profile === "slow" ? history.calls.flatMap(needlessFailures) : [],
  ...RevisionChecker.check(history, changes, { foreignLease: () => profile === "brutal" }).violations,
  // Slow, because it does not trust revisions. It finds nothing that the revision checker misses, unless that has a bug.
  ...seed % 4 === 0 && scenarios.isOrderable(seed) ? LinearizabilityChecker.check(history) : [],
  ...WatchChecker.check(history, changes, {
    compactedAt,
    readUpTo: (watch) => watch.ended === undefined ? revision : undefined
  }),
  ...LockChecker.check(history, {
    changes,
    counts,
    permits: { [`${simulation.prefix}${Workload.semaphore}`]: Workload.permits }
  }).filter(({ kind }) => profile !== "brutal" || !isLateLoss(kind)),
  ...TickChecker.check(changes, { jobs: [simulation.job], onCrash: "skip", begun }),
  ...TickChecker.check(changes, { jobs: Recipes.jobsOf(simulation.prefix), begun: recipes.begun })
]

/** If nothing is lost and delays are short, no call may fail for lack of a response. */
const needlessFailures = ({ id, outcome }: History.Call): ReadonlyArray<Violation.Violation> =>
  outcome._tag === "Failed" && ["Unavailable", "DeadlineExceeded", "Indeterminate"].includes(outcome.reason)
    ? [{ kind: "NeedlessFailure", message: outcome.message, records: [id] }]
    : []

/** Calls end by the default deadline, which all clients use, unless their process is stopped. */
const lateCalls = (
  { completed, id, invoked }: History.Call,
  profile: FaultProfile
): ReadonlyArray<Violation.Violation> => {
  if (completed === undefined) return [{ kind: "Hanging", message: "a call has not ended", records: [id] }]
  const millis = Number(completed.nanos - invoked.nanos) / 1e6
  return profile === "brutal" || millis <= Duration.toMillis(Deadline.defaultDeadline) + 1
    ? []
    : [{ kind: "Overdue", message: `a call took ${millis} ms`, records: [id] }]
}

/** Violations that a holder cannot avoid if its process was stopped or its lease was revoked. */
const isLateLoss = (kind: LockChecker.Kind): boolean =>
  ["OverlappingHolders", "TokenOrder", "TooManyPermits"].includes(kind)

const unfinished = (ended: Ended<unknown, unknown>): Violation.Violation => {
  switch (ended._tag) {
    case "Done":
      return {
        kind: "Died",
        message: Exit.isFailure(ended.exit) ? Cause.pretty(ended.exit.cause) : "",
        records: []
      }
    case "Stuck":
      return { kind: "Stuck", message: "a fiber waits for an event that never happens", records: [] }
    case "Endless":
      return { kind: "Endless", message: "the run exceeded its limit of turns", records: [] }
  }
}

/**
 * The response of a range in the order of creation. Keys are ordered by the ids of leases, which differ from run to run. If
 * there were more entries than the limit, those returned are different ones, and only their number is kept.
 */
const inOrderOfCreation = (call: History.Call): History.Call => {
  const change = (response: History.OpResponse): History.OpResponse => {
    if (response._tag === "Txn") return { ...response, responses: response.responses.map(change) }
    if (response._tag !== "Range") return response
    return {
      ...response,
      entries: response.more ? [] : response.entries.toSorted((a, b) => Number(a.createRevision - b.createRevision))
    }
  }
  const { outcome } = call
  return outcome._tag === "Responded" && (outcome.response._tag === "Range" || outcome.response._tag === "Txn")
    ? { ...call, outcome: { ...outcome, response: change(outcome.response) } }
    : call
}

/**
 * Replaces lease ids, which the library draws outside of the seed, by numbers in the order of their first request. The first
 * request may be a revocation, if the grant was cancelled before it was sent.
 */
const stable = (trace: string, history: History.History): string => {
  const names = new Map<string, string>()
  // The ids of a counter's participants are not drawn from the seed either.
  for (const [, id] of trace.matchAll(/\/counter\/live\/([0-9a-f]+)/g)) {
    if (!names.has(id!)) names.set(id!, `<participant ${names.size}>`)
  }
  const participants = names.size
  for (const { request } of history.calls) {
    if (request._tag === "Execute" || request.id === undefined) continue
    for (const name of [request.id.toString(), request.id.toString(16)]) {
      if (!names.has(name)) names.set(name, `<lease ${(names.size - participants) >> 1}>`)
    }
  }
  return names.size === 0
    ? trace
    : trace.replaceAll(new RegExp([...names.keys()].join("|"), "g"), (name) => names.get(name)!)
}
