/**
 * A stale read: it does not see a write that was complete before its invocation.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { History } from "@effect-kv/test-suite/verification"
import { Timeline } from "../../src/verification/checkers/Timeline.ts"
import { callsWithResponse, type CallWithResponse, type Corrupt, puts, replaceCall, withResponse } from "./pick.ts"

/** `honest`: its response has the old revision. `pretending`: its response has the current revision. */
export const staleRead = (how: "honest" | "pretending"): Corrupt => (run, pick) => {
  const timeline = new Timeline(run.changes)
  const stale = callsWithResponse(run).flatMap((call) => {
    const { outcome: { response }, request: { op } } = call
    if (op._tag !== "Range" || response._tag !== "Range" || !isPlain(op)) return []
    const write = puts(run).findLast((put) =>
      put.request.op.lease === undefined && KeyRange.contains(op.range, put.request.op.key) &&
      put.completed.order < call.invoked.order
    )
    if (write === undefined) return []
    const revision = write.outcome.response.revision - 1n
    const entries = timeline.at(revision).within(op.range) as ReadonlyArray<History.Row>
    // The overwritten entry: a missing new entry could look like a deleted one.
    const isStale = entries.some((row) => row.key === write.request.op.key)
    return isStale && revisions(entries) !== revisions(response.entries) ? [{ response, call, entries, revision }] : []
  })
  const chosen = pick.one(stale)
  if (chosen === undefined) return undefined
  const { response, call, entries, revision } = chosen
  return replaceCall(
    run,
    call.id,
    withResponse(call, {
      _tag: "Range",
      revision: how === "honest" ? revision : response.revision,
      entries,
      count: entries.length,
      more: false
    })
  )
}

const revisions = (rows: ReadonlyArray<History.Row>): string => rows.map((row) => row.modRevision).sort().join()

/** Whether a read has no options. */
const isPlain = (op: CallWithResponse["request"]["op"]): boolean => Object.keys(op).every((field) => plain.has(field))

const plain = new Set(["_tag", "range"])
