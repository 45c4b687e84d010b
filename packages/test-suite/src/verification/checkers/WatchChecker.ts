/**
 * Checker of watches: what they delivered, against the store's own history.
 *
 * Deliveries must be complete, in order, without repetition, and never split a revision. Every event must have the
 * right entry, the right previous entry, and say rightly whether it created the key.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { Change, Extent } from "../history/Changes.ts"
import type * as History from "../history/History.ts"
import type { ModelRow } from "../history/rows.ts"
import { sameRow, showRow } from "../history/rows.ts"
import { type Step, Timeline } from "./Timeline.ts"
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations that this checker finds.
 *
 * @since 0.1.0
 */
export type Kind =
  /** A revision that should have been delivered was left out. */
  | "Missing"
  /** A revision was delivered again. */
  | "Duplicate"
  /** A revision was delivered after a later one. */
  | "Reordered"
  /** Of a revision only some of the events came, or in another order. */
  | "SplitRevision"
  /** An event came that did not happen, or not in what was watched. */
  | "Phantom"
  /** An event's entry is not what was written. */
  | "WrongEntry"
  /** The entry before an event is not what was there. */
  | "WrongPrevious"
  /** An event says wrongly that it created its key, or that it did not. */
  | "WrongIsCreate"
  /** The watch was confirmed for events from another revision than was asked for. */
  | "WrongStart"
  /** The watch did not get as far as it was read to. */
  | "Incomplete"
  /** The store's own history contradicts itself. */
  | "BrokenStoreHistory"

/**
 * A violation that this checker found.
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
   * The revision up to which a watch was read for certain, or `undefined` if it is not known. In that case what the
   * watch delivered must be right, and later events may be missing.
   */
  readonly readUpTo?: ((watch: History.WatchCall) => bigint | undefined) | undefined
  /**
   * The last revision at which the store was compacted: previous entries of events up to it may be missing. Default:
   * none.
   */
  readonly compactedAt?: bigint | undefined
  /** Which changes are given. Default: all. */
  readonly extent?: Extent | undefined
}

/**
 * Checks the watches of a history against all changes that the store made, from its beginning.
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
    report("WrongStart", confirmed, `it was confirmed for what comes after it, and asked for from ${startRevision} on`)
  }
  const start = startRevision === undefined ? confirmed : startRevision - 1n
  let last = start
  const delivered = new Set<bigint>()
  for (const batch of watch.batches) {
    const { revision } = batch
    const expected = timeline.stepsAt(revision).filter(isWatched)
    if (revision <= last) {
      const kind = delivered.has(revision) ? "Duplicate" : revision <= start ? "Phantom" : "Reordered"
      report(kind, revision, `it came after ${last}${delivered.has(revision) ? ", again" : ""}`)
    } else {
      for (const missing of revisionsWith(timeline, watch.request.range, isWatched, last, revision - 1n)) {
        report("Missing", missing, `it was left out; ${revision} came after ${last}`)
      }
      last = revision
    }
    // What was missed and comes late is told as such, and not again.
    delivered.add(revision)
    for (const [kind, message] of wrongEvents(watch, batch, expected, options.compactedAt ?? 0n)) {
      report(kind, revision, message)
    }
  }

  const readUpTo = options.readUpTo?.(watch)
  if (readUpTo !== undefined) {
    for (const missing of revisionsWith(timeline, watch.request.range, isWatched, last, readUpTo)) {
      report("Incomplete", missing, `it never came, though the watch was read up to ${readUpTo}`)
    }
  }
  return violations
}

/** The revisions after one and up to another at which something that is watched changed. */
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
  if (keys.size !== batch.events.length) wrong.push(["Duplicate", "it has several events of a key"])
  if (left.length > 0 && left.length < expected.length || batch.events.length === 0) {
    wrong.push(["SplitRevision", `${batch.events.length} of its ${expected.length} events came`])
  }
  const order = expected.filter((step) => keys.has(step.key)).map((step) => step.key)
  const came = batch.events.map((event) => event.key).filter((key) => order.includes(key))
  if (keys.size === batch.events.length && came.some((key, i) => key !== order[i])) {
    wrong.push(["Reordered", `its events came in the order ${came.join(", ")}, and were made in ${order.join(", ")}`])
  }
  for (const event of batch.events) {
    const name = JSON.stringify(event.key)
    const step = expected.find((each) => each.key === event.key)
    if (step === undefined || (step.after === undefined) !== (event._tag === "Delete")) {
      wrong.push(["Phantom", `there was no ${event._tag} of ${name} that was watched`])
      continue
    }
    if (event.revision !== batch.revision) {
      wrong.push(["SplitRevision", `an event in it is of revision ${event.revision}`])
    }
    if (event._tag === "Put" && step.after !== undefined) {
      if (!sameRow(step.after, event.entry)) {
        wrong.push(["WrongEntry", `it came with ${showRow(event.entry)}, and ${showRow(step.after)} was written`])
      }
      if (event.isCreate !== (step.before === undefined)) {
        wrong.push([
          "WrongIsCreate",
          `${name} came with isCreate: ${event.isCreate}, and before was ${showRow(step.before)}`
        ])
      }
    }
    const before = watch.request.previous === true ? step.before : undefined
    const mayBeMissing = batch.revision <= compactedAt
    if (!(event.previous === undefined && mayBeMissing) && !samePrevious(before, event.previous)) {
      wrong.push([
        "WrongPrevious",
        `${name} came with ${showRow(event.previous)} as what was before, not ${showRow(before)}`
      ])
    }
  }
  return wrong
}

const samePrevious = (expected: ModelRow | undefined, actual: ModelRow | undefined): boolean =>
  expected === undefined || actual === undefined ? expected === actual : sameRow(expected, actual)
