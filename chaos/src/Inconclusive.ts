/**
 * Reasons why a run proves nothing: too few calls, or too few faults.
 */
import type { Entry, Kind } from "./Fault.ts"
import type { Round } from "./Round.ts"

/** The minimum for a conclusion. */
const least = { callsBeforeFaults: 100, callsPerSecond: 50 }

/** What the run lacks, as messages. Empty if it is conclusive. */
export const find = (
  schedule: ReadonlyArray<Entry>,
  kinds: ReadonlyArray<Kind>,
  { began, done, ended, history, appliedFaults }: Round
): ReadonlyArray<string> => {
  const planned = schedule.flatMap((entry) => entry.faults).length
  // Failed calls do not count: calls that fail at once are fast, too.
  const withResponse = history.calls.filter((call) => call.outcome._tag === "Responded")
  const first = appliedFaults.reduce((first, { began }) => began < first ? began : first, ended)
  const before = withResponse.filter(({ completed }) => completed !== undefined && completed.nanos < first).length
  const rate = withResponse.length / (Number(ended - began) / 1e9)
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
  ].map((lack) => `inconclusive: ${lack}`)
}
