/**
 * A checker of revisions: compares the revisions in responses with the changes of the store. It is the strongest checker for
 * stores with revisions, such as etcd and memory, and fast enough for hundreds of thousands of operations.
 *
 * It checks that every confirmed write is among the changes: once, complete, and at the confirmed revision. No change may lack
 * a writer. Every response must be right for the store at its revision, and the order of revisions must agree with real time.
 * Together this is linearizability. The changes also decide the writes of unknown outcome: each was applied once or never.
 */
import * as Op from "@effect-kv/core/Op"
import type { Change, Extent } from "../history/Changes.ts"
import * as History from "../history/History.ts"
import { showCall } from "../history/show.ts"
import * as attribution from "./attribution.ts"
import { earlyEnds } from "./leaseEnds.ts"
import { wrongLeases } from "./leaseResponses.ts"
import { execute } from "./Model.ts"
import { isLinearizableRead, responseOf, SeenRevisions, wrote } from "./responses.ts"
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
  /** Changes by clients that are not recorded. They need no writer. Default: none. */
  readonly foreign?: ((key: string, type: Change["type"]) => boolean) | undefined
  /** Leases that clients may revoke without a record. Default: none. */
  readonly foreignLease?: ((lease: bigint) => boolean) | undefined
  /** Which changes are given. Default: all. */
  readonly extent?: Extent | undefined
  /** The most steps of the search for an order of the operations of one revision. Default: 100,000. */
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
   * The ids of the writes of unknown outcome, by whether they were applied. A write that changed nothing, because its
   * conditions did not hold or there was nothing to delete, counts as not applied.
   */
  readonly unknown: {
    readonly applied: ReadonlyArray<number>
    readonly notApplied: ReadonlyArray<number>
  }
}

/**
 * Checks a history against all changes of the store, from its start to at least the end of the history.
 *
 * **Gotchas**
 *
 * Give each write a unique value (`Recorder.value`). Two writes of one value to one key, both of unknown outcome,
 * cannot be distinguished, and a write that was applied twice could hide behind the other.
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
  const seenRevisions = new SeenRevisions(history)
  /** For each revision, the calls whose responses claim it. */
  const writers = new Map<bigint, Array<attribution.CallWithResponse>>()

  for (const call of calls) {
    const response = responseOf(call)
    if (response === undefined) continue
    const { revision } = response
    if (!timeline.has(revision)) {
      report({
        kind: "UnknownRevision",
        message: `${
          showCall(call)
        } has a response at revision ${revision}, and the last revision of the store is ${timeline.last}`,
        records: [call.id],
        revision
      })
      continue
    }
    const isWriter = wrote(call.request.op, response)
    const floor = seenRevisions.before(call)
    if (floor !== undefined && (isWriter ? revision <= floor.revision : revision < floor.revision)) {
      if (isWriter || isLinearizableRead(call.request.op)) {
        report({
          kind: "RealTimeOrder",
          message:
            `${showCall(call)} has a response at revision ${revision}, and revision ${floor.revision} was seen ` +
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
    // No read may see half of a revision: a watch from the next revision would miss the rest.
    const store = { view: timeline.at(revision), at: (past: bigint) => timeline.at(past), writeRevision: undefined }
    const [effect] = execute(store, call.request.op, response)
    if (effect?._tag !== "Mismatch") continue
    report({
      kind: "WrongResponse",
      message: `${showCall(call)} has a response at revision ${revision}: ${effect.message}`,
      records: [call.id],
      revision
    })
  }

  const unknown = calls.filter((call) => History.isUnknown(call) && Op.isWrite(call.request.op))
  const notApplied = calls.filter((call) =>
    call.outcome._tag === "Failed" && !History.isUnknown(call) && Op.isWrite(call.request.op)
  )
  const attributions = new attribution.ChangeAttribution(
    timeline,
    { all: history.calls, calls, unknown, notApplied },
    seenRevisions,
    options.foreign
  )
  for (let revision = timeline.first; revision <= timeline.last; revision++) {
    const withResponse = writers.get(revision) ?? []
    const found = attributions.attribute(revision, withResponse)
    found.violations.forEach(report)
    if (found.violations.length > 0) continue
    explain(timeline, revision, withResponse, found, options.budget ?? 100_000).forEach(report)
  }
  const isForeignLease = options.foreignLease ?? (() => false)
  earlyEnds(history.calls, attributions.leaseEnds.filter(({ lease }) => !isForeignLease(lease)), seenRevisions).forEach(
    report
  )
  wrongLeases(timeline, history.calls, isForeignLease).forEach(report)
  const applied = attributions.applied
  return {
    violations,
    unknown: {
      applied: unknown.filter((call) => applied.has(call.id)).map((call) => call.id),
      notApplied: unknown.filter((call) => !applied.has(call.id)).map((call) => call.id)
    }
  }
}
