/**
 * Reasons why a run proves nothing: too few calls, or too few faults.
 */
import type { Entry, Kind } from "./Fault.ts"
import type { Round } from "./Round.ts"
import * as Span from "./Span.ts"

/** The minimum for a conclusion. */
const least = { callsBeforeFaults: 100, callsPerSecond: 50 }

/** What the run lacks, as messages. Empty if it is conclusive. */
export const find = (
  schedule: ReadonlyArray<Entry>,
  kinds: ReadonlyArray<Kind>,
  { appliedFaults, began, done, ended, eventLoopStalls, history }: Round
): ReadonlyArray<string> => {
  const planned = schedule.flatMap((entry) => entry.faults).length
  // The rate is that while the event loop ran. Failed calls do not count: calls that fail at once are fast, too.
  const withResponse = history.calls.filter((call) => call.outcome._tag === "Responded")
  const first = appliedFaults.reduce((first, { began }) => began < first ? began : first, ended)
  const before = withResponse.filter(({ completed }) => completed !== undefined && completed.nanos < first).length
  const window = { from: began, to: ended }
  const stalled = Span.covered(Span.merge(eventLoopStalls), window)
  const rate = withResponse.length / Math.max((Span.millis(window) - stalled) / 1000, 0.001)
  const idle = Object.entries(done).filter(([, times]) => times === 0)
  return [
    ...(before < least.callsBeforeFaults ? [`only ${before} calls succeeded before the first fault`] : []),
    ...(rate < least.callsPerSecond ? [`only ${rate.toFixed(0)} calls per second succeeded`] : []),
    ...idle.map(([kind]) => `no work of the kind ${kind} was completed`),
    ...(kinds.length > 0 && planned === 0 ? ["the run was too short for any fault"] : []),
    ...(appliedFaults.length < planned ? [`${appliedFaults.length} of ${planned} faults were applied`] : []),
    ...appliedFaults.flatMap(({ fault, problem }) =>
      problem === undefined ? [] : [`the fault ${fault.kind} could not be applied: ${problem}`]
    )
  ].map((lack) => `${mark}${lack}`)
}

const mark = "inconclusive: "

/** Whether a run found nothing wrong, but proves nothing: another run may. */
export const isAll = (violations: ReadonlyArray<string>): boolean =>
  violations.length > 0 && violations.every((violation) => violation.startsWith(mark))
