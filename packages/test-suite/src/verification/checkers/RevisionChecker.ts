/**
 * Checker of a history by the revisions in its responses, against the store's own history.
 *
 * It is the strongest checker for stores that number revisions, as etcd and memory do, and fast enough for hundreds of
 * thousands of operations. It shows four things. Every confirmed write is in the store's history once, whole, and at
 * its revision. Nothing is in that history that no client wrote. Every response is right for the store at its revision.
 * The order of revisions agrees with real time. Together that is linearizability. What became of each write without a
 * response is read from the store's history: it is there once or not at all.
 */
import * as Op from "@effect-kv/core/Op"
import type { Change, Extent } from "../history/Changes.ts"
import * as History from "../history/History.ts"
import { showCall } from "../history/show.ts"
import { isLinearizableRead, responseOf, Sights, wrote } from "./answers.ts"
import * as attribution from "./attribution.ts"
import { wrongLeases } from "./leaseAnswers.ts"
import { earlyEnds } from "./leaseEnds.ts"
import { carryOut } from "./Model.ts"
import { explain } from "./revision.ts"
import type { Violation } from "./RevisionViolation.ts"
import { Timeline } from "./Timeline.ts"

export type { Kind, Violation } from "./RevisionViolation.ts"

/**
 * Options of a check.
 *
 * @since 0.1.0
 */
export interface Options {
  /** Changes by clients whose calls are not recorded; they need no explanation. Default: none. */
  readonly foreign?: ((key: string, type: Change["type"]) => boolean) | undefined
  /** Leases that clients may revoke whose calls are not recorded. Default: none. */
  readonly foreignLease?: ((lease: bigint) => boolean) | undefined
  /** Which changes are given. Default: all. */
  readonly extent?: Extent | undefined
  /** How many orders of the operations of one revision may be tried. Default: 100,000. */
  readonly budget?: number | undefined
}

/**
 * The result of a check.
 *
 * @since 0.1.0
 */
export interface Report {
  /** The violations that were found. */
  readonly violations: ReadonlyArray<Violation>
  /**
   * The ids of the writes without a response, by what became of them. A write that changed nothing, because its
   * conditions did not hold or there was nothing to delete, counts as not applied.
   */
  readonly unknown: {
    readonly applied: ReadonlyArray<number>
    readonly notApplied: ReadonlyArray<number>
  }
}

/**
 * Checks a history against all changes that the store made, from its beginning at least to the end of the history.
 *
 * **Gotchas**
 *
 * Give each write a value of its own (`Recorder.value`). If two writes without a response put the same value to the
 * same key, the checker cannot tell which was applied, and one that was applied twice can hide behind the other.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Changes, Recorder, RevisionChecker, Workload } from "@effect-kv/test-suite/verification"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const server = yield* Recorder.make
 *   const everything = yield* Workload.watch(server.client("server")(yield* store.connect), "")
 *
 *   const recorder = yield* Recorder.make
 *   const kv = yield* Effect.flatMap(store.connect, (backend) => Kv.make(recorder.client("a")(backend)))
 *   const { revision } = yield* kv.put("a", yield* recorder.value("a"))
 *
 *   yield* everything.upTo(revision)
 *   const changes = Changes.fromBatches((yield* server.history).watches[0]!.batches)
 *   RevisionChecker.check(yield* recorder.history, changes).violations // => []
 * })
 * ```
 *
 * @since 0.1.0
 */
export const check = (
  history: History.History,
  changes: ReadonlyArray<Change>,
  options: Options = {}
): Report => {
  const timeline = new Timeline(changes, options.extent)
  const violations: Array<Violation> = timeline.problems.map((message) => ({
    kind: "BrokenStoreHistory",
    message,
    records: []
  }))
  const report = (violation: Violation) => violations.push(violation)
  const calls = history.calls.filter(History.isOpCall)
  const sights = new Sights(history)
  /** Of each revision, the calls that were told they made it. */
  const writers = new Map<bigint, Array<attribution.Answered>>()

  for (const call of calls) {
    const response = responseOf(call)
    if (response === undefined) continue
    const { revision } = response
    if (!timeline.has(revision)) {
      report({
        kind: "UnknownRevision",
        message: `${
          showCall(call)
        } was answered at revision ${revision}, and the store was at ${timeline.last} in the end`,
        records: [call.id],
        revision
      })
      continue
    }
    const isWriter = wrote(call.request.op, response)
    const floor = sights.before(call)
    if (floor !== undefined && (isWriter ? revision <= floor.revision : revision < floor.revision)) {
      if (isWriter || isLinearizableRead(call.request.op)) {
        report({
          kind: "RealTimeOrder",
          message:
            `${showCall(call)} was answered at revision ${revision}, and revision ${floor.revision} had been seen ` +
            "before it was invoked",
          records: [call.id, floor.record],
          revision
        })
      }
    }
    if (isWriter) {
      const sharing = writers.get(revision)
      if (sharing === undefined) writers.set(revision, [{ call, response }])
      else sharing.push({ call, response })
      continue
    }
    // Nobody may see the middle of a revision: who watches from the next one on would miss the rest of it.
    const store = { view: timeline.at(revision), at: (past: bigint) => timeline.at(past), writeRevision: undefined }
    const [effect] = carryOut(store, call.request.op, response)
    if (effect?._tag !== "Mismatch") continue
    report({
      kind: "WrongAnswer",
      message: `${showCall(call)} was answered at revision ${revision}: ${effect.message}`,
      records: [call.id],
      revision
    })
  }

  const unknown = calls.filter((call) => History.isUnknown(call) && Op.isWrite(call.request.op))
  const refused = calls.filter((call) =>
    call.outcome._tag === "Failed" && !History.isUnknown(call) && Op.isWrite(call.request.op)
  )
  const suspects = new attribution.Suspects(
    timeline,
    { all: history.calls, calls, unknown, refused },
    sights,
    options.foreign
  )
  for (let revision = timeline.first; revision <= timeline.last; revision++) {
    const answered = writers.get(revision) ?? []
    const found = suspects.attribute(revision, answered)
    found.violations.forEach(report)
    if (found.violations.length > 0) continue
    explain(timeline, revision, answered, found, options.budget ?? 100_000).forEach(report)
  }
  const isForeignLease = options.foreignLease ?? (() => false)
  earlyEnds(history.calls, suspects.leaseEnds.filter(({ lease }) => !isForeignLease(lease)), sights).forEach(report)
  wrongLeases(timeline, history.calls, isForeignLease).forEach(report)
  const applied = suspects.applied
  return {
    violations,
    unknown: {
      applied: unknown.filter((call) => applied.has(call.id)).map((call) => call.id),
      notApplied: unknown.filter((call) => !applied.has(call.id)).map((call) => call.id)
    }
  }
}
