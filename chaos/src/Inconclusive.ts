/**
 * Why nothing can be concluded from a run: too little was done, or too little of it was disturbed.
 */
import type { Entry, Kind } from "./Fault.ts"
import type { Round } from "./Round.ts"

/** What is too little. */
const least = { callsBeforeFaults: 100, callsPerSecond: 50 }

/** What a run lacks, in words. Nothing where it was worth it. */
export const find = (
  schedule: ReadonlyArray<Entry>,
  kinds: ReadonlyArray<Kind>,
  { began, done, ended, history, appliedFaults }: Round
): ReadonlyArray<string> => {
  const planned = schedule.flatMap((entry) => entry.faults).length
  // What fails at once would be quick as well.
  const answered = history.calls.filter((call) => call.outcome._tag === "Answered")
  const first = appliedFaults.reduce((first, { began }) => began < first ? began : first, ended)
  const before = answered.filter(({ completed }) => completed !== undefined && completed.nanos < first).length
  const rate = answered.length / (Number(ended - began) / 1e9)
  const idle = Object.entries(done).filter(([, times]) => times === 0)
  return [
    ...(before < least.callsBeforeFaults ? [`${before} calls were answered before the first fault`] : []),
    ...(rate < least.callsPerSecond ? [`${rate.toFixed(0)} calls were answered a second`] : []),
    ...idle.map(([kind]) => `no work of the kind ${kind} was done to its end`),
    ...(kinds.length > 0 && planned === 0 ? ["there was no time for any of the faults"] : []),
    ...(appliedFaults.length < planned ? [`${appliedFaults.length} of ${planned} faults were carried out`] : []),
    ...appliedFaults.flatMap(({ fault, problem }) =>
      problem === undefined ? [] : [`the fault ${fault.kind} could not be carried out: ${problem}`]
    )
  ].map((lack) => `inconclusive: ${lack}`)
}
