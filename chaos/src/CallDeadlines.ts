/**
 * Deadlines of calls and of the opening of watches: which of them were exceeded.
 */
import type { History } from "@effect-kv/test-suite/verification"
import * as Duration from "effect/Duration"
import { deadlineOf } from "./deadlines.ts"
import type { Round } from "./Round.ts"
import * as Span from "./Span.ts"

/** How much later than its deadline a call may end on a busy machine, in milliseconds. */
export const timeTolerance = 1500

/** The deadline of cleanup by locks and sessions, whatever the client's deadline, in milliseconds. */
const ownDeadline = 3000

/** The deadline of a renewal, whatever the client's: a third of the longest time to live of a session, 10 seconds. */
const renewalDeadline = 10_000 / 3

/** Whether a call may be such a cleanup: it revokes a lease or deletes a key in a transaction. */
const isCleanup = ({ request }: History.Call): boolean =>
  request._tag === "LeaseRevoke" ||
  request._tag === "Execute" && request.op._tag === "Txn" && request.op.then.some(({ _tag }) => _tag === "Delete")

/** Calls that ended long after their deadline, or never. Time in which the event loop stalled does not count. */
export const find = ({ eventLoopStalls, history }: Round): ReadonlyArray<string> => {
  const stalls = Span.merge(eventLoopStalls)
  const isLate = (from: History.Moment, to: History.Moment, millis: number) => {
    const window = { from: from.nanos, to: to.nanos }
    const took = Span.millis(window)
    return took >= millis + timeTolerance && took - Span.covered(stalls, window) >= millis + timeTolerance
  }
  const seconds = (from: History.Moment, to: History.Moment) => (Number(to.nanos - from.nanos) / 1e9).toFixed(1)
  return [
    ...history.calls.flatMap((call) => {
      const { client, completed, invoked, outcome, request } = call
      if (completed === undefined) {
        return [`a call of ${client} had not ended when everything was closed: ${request._tag}`]
      }
      const own = isCleanup(call) ? ownDeadline : request._tag === "LeaseKeepAlive" ? renewalDeadline : 0
      const limit = Math.max(Duration.toMillis(deadlineOf(client)), own)
      if (!isLate(invoked, completed, limit)) return []
      return [`a call of ${client} took ${seconds(invoked, completed)} s: ${request._tag} ${outcome._tag}`]
    }),
    ...history.watches.flatMap(({ client, confirmed, ended, invoked }) => {
      const opened = confirmed?.at ?? ended?.at
      if (opened === undefined) return [`a watch of ${client} had neither opened nor failed when everything was closed`]
      if (!isLate(invoked, opened, Duration.toMillis(deadlineOf(client)))) return []
      return [`opening a watch of ${client} took ${seconds(invoked, opened)} s`]
    })
  ]
}
