/**
 * A checker of watches: compares the delivered events with the changes of the store. Events must be complete, in order and
 * unique, no revision may be split, and each event must have the right entry, previous entry and `isCreate`.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { Change, Extent } from "../history/Changes.ts"
import type * as History from "../history/History.ts"
import type { ModelRow } from "../history/rows.ts"
import { sameRow, showRow } from "../history/rows.ts"
import { type Step, Timeline } from "./Timeline.ts"
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations.
 *
 * @since 0.1.0
 */
export type Kind =
  /** A revision was not delivered. */
  | "Missing"
  /** A revision was delivered twice. */
  | "Duplicate"
  /** A revision was delivered after a later one. */
  | "Reordered"
  /** Only some events of a revision were delivered, or in another order. */
  | "SplitRevision"
  /** An event was delivered that did not happen, or not in the watched range. */
  | "Phantom"
  /** The entry of an event is not what was written. */
  | "WrongEntry"
  /** The previous entry of an event is wrong. */
  | "WrongPrevious"
  /** The `isCreate` of an event is wrong. */
  | "WrongIsCreate"
  /** The watch was confirmed from another revision than the requested one. */
  | "WrongStart"
  /** The watch did not deliver all events up to the revision to which it was read. */
  | "Incomplete"
  /** The changes of the store contradict each other. */
  | "BrokenStoreHistory"

/**
 * A violation.
 *
 * @since 0.1.0
 */
export type Violation = Violation_.Violation<Kind>

/**
 * Options of a check.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * The revision up to which a watch was certainly read, `undefined` if unknown. Then only the delivered events are
   * checked, and later ones may be missing.
   */
  readonly readUpTo?: ((watch: History.WatchCall) => bigint | undefined) | undefined
  /** The last compacted revision: previous entries of events up to it may be missing. Default: none. */
  readonly compactedAt?: bigint | undefined
  /** Which changes are given. Default: all. */
  readonly extent?: Extent | undefined
}

/**
 * Checks the watches of a history against all changes of the store from its start.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Changes, Recorder, WatchChecker, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const server = yield* Recorder.make
 *   const everything = yield* Workload.watch(server.client("server")(yield* store.connect), "")
 *
 *   const recorder = yield* Recorder.make
 *   const backend = recorder.client("a")(yield* store.connect)
 *   const watch = yield* Workload.watch(backend, "app/")
 *   const kv = yield* Kv.make(backend)
 *   const { revision } = yield* kv.put("app/limit", "10")
 *
 *   yield* Effect.all([everything.upTo(revision), watch.upTo(revision)])
 *   const changes = Changes.fromBatches((yield* server.history).watches[0]!.batches)
 *   WatchChecker.check(yield* recorder.history, changes, { readUpTo: () => revision }) // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const check = (
  history: Pick<History.History, "watches">,
  changes: ReadonlyArray<Change>,
  options: Options = {}
): ReadonlyArray<Violation> => {
  const timeline = new Timeline(changes, options.extent)
  return [
    ...timeline.problems.map((message): Violation => ({ kind: "BrokenStoreHistory", message, records: [] })),
    ...history.watches.flatMap((watch) =>
      watch.confirmed === undefined ? [] : checkWatch(timeline, watch, watch.confirmed.revision, options)
    )
  ]
}

const checkWatch = (
  timeline: Timeline,
  watch: History.WatchCall,
  confirmed: bigint,
  options: Options
): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  const report = (kind: Kind, revision: bigint, message: string) => {
    violations.push({ kind, message: `revision ${revision}: ${message}`, records: [watch.id], revision })
  }
  const isWatched = (step: Step) =>
    KeyRange.contains(watch.request.range, step.key) &&
    (watch.request.only === undefined || (watch.request.only === "Put") === (step.after !== undefined))

  const { startRevision } = watch.request
  if (startRevision !== undefined && confirmed !== startRevision - 1n) {
    report("WrongStart", confirmed, `the watch was confirmed after this revision, and requested from ${startRevision}`)
  }
  const start = startRevision === undefined ? confirmed : startRevision - 1n
  let last = start
  const delivered = new Set<bigint>()
  for (const batch of watch.batches) {
    const { revision } = batch
    const expected = timeline.stepsAt(revision).filter(isWatched)
    if (revision <= last) {
      const kind = delivered.has(revision) ? "Duplicate" : revision <= start ? "Phantom" : "Reordered"
      report(kind, revision, `it was delivered after ${last}${delivered.has(revision) ? ", again" : ""}`)
    } else {
      for (const missing of revisionsWith(timeline, watch.request.range, isWatched, last, revision - 1n)) {
        report("Missing", missing, `it is missing: ${revision} was delivered after ${last}`)
      }
      last = revision
    }
    // A missed revision that arrives late is reported as missed only.
    delivered.add(revision)
    for (const [kind, message] of wrongEvents(watch, batch, expected, options.compactedAt ?? 0n)) {
      report(kind, revision, message)
    }
  }

  const readUpTo = options.readUpTo?.(watch)
  if (readUpTo !== undefined) {
    for (const missing of revisionsWith(timeline, watch.request.range, isWatched, last, readUpTo)) {
      report("Incomplete", missing, `it was never delivered, although the watch was read up to ${readUpTo}`)
    }
  }
  return violations
}

/** The revisions with changes in the watched range, after one revision and up to another. */
const revisionsWith = (
  timeline: Timeline,
  range: KeyRange.KeyRange,
  isWatched: (step: Step) => boolean,
  after: bigint,
  upTo: bigint
): ReadonlyArray<bigint> => {
  const isChanged = (revision: bigint) => timeline.stepsAt(revision).some(isWatched)
  if (range._tag === "Key") return timeline.revisionsOf(range.key, after, upTo).filter(isChanged)
  const revisions: Array<bigint> = []
  const end = upTo < timeline.last ? upTo : timeline.last
  for (let revision = after + 1n; revision <= end; revision++) if (isChanged(revision)) revisions.push(revision)
  return revisions
}

const wrongEvents = (
  watch: History.WatchCall,
  batch: History.Batch,
  expected: ReadonlyArray<Step>,
  compactedAt: bigint
): ReadonlyArray<readonly [Kind, string]> => {
  const wrong: Array<readonly [Kind, string]> = []
  const keys = new Set(batch.events.map((event) => event.key))
  const left = expected.filter((step) => !keys.has(step.key))
  if (keys.size !== batch.events.length) wrong.push(["Duplicate", "it has several events of one key"])
  if (left.length > 0 && left.length < expected.length || batch.events.length === 0) {
    wrong.push(["SplitRevision", `${batch.events.length} of its ${expected.length} events were delivered`])
  }
  const order = expected.filter((step) => keys.has(step.key)).map((step) => step.key)
  const actual = batch.events.map((event) => event.key).filter((key) => order.includes(key))
  if (keys.size === batch.events.length && actual.some((key, i) => key !== order[i])) {
    wrong.push([
      "Reordered",
      `its events were delivered in the order ${actual.join(", ")} instead of ${order.join(", ")}`
    ])
  }
  for (const event of batch.events) {
    const name = JSON.stringify(event.key)
    const step = expected.find((each) => each.key === event.key)
    if (step === undefined || (step.after === undefined) !== (event._tag === "Delete")) {
      wrong.push(["Phantom", `there was no watched ${event._tag} of ${name}`])
      continue
    }
    if (event.revision !== batch.revision) {
      wrong.push(["SplitRevision", `an event in it has revision ${event.revision}`])
    }
    if (event._tag === "Put" && step.after !== undefined) {
      if (!sameRow(step.after, event.entry)) {
        wrong.push(["WrongEntry", `it has the entry ${showRow(event.entry)}, and ${showRow(step.after)} was written`])
      }
      if (event.isCreate !== (step.before === undefined)) {
        wrong.push([
          "WrongIsCreate",
          `${name} has isCreate: ${event.isCreate}, and the entry before was ${showRow(step.before)}`
        ])
      }
    }
    const before = watch.request.previous === true ? step.before : undefined
    const mayBeMissing = batch.revision <= compactedAt
    if (!(event.previous === undefined && mayBeMissing) && !samePrevious(before, event.previous)) {
      wrong.push([
        "WrongPrevious",
        `${name} has the previous entry ${showRow(event.previous)}, not ${showRow(before)}`
      ])
    }
  }
  return wrong
}

const samePrevious = (expected: ModelRow | undefined, actual: ModelRow | undefined): boolean =>
  expected === undefined || actual === undefined ? expected === actual : sameRow(expected, actual)
