/**
 * Errors that nothing explains. The checkers trust the reason that a client reports for a failure. This check compares
 * it with the faults at that time, the compactions, and the request.
 */
import type * as Op from "@effect-kv/core/Op"
import type { History } from "@effect-kv/test-suite/verification"
import { isPutOf } from "./Availability.ts"
import * as Disturbances from "./Disturbances.ts"
import type { Round } from "./Round.ts"
import * as Span from "./Span.ts"
import { isResidentKey } from "./work/leases.ts"

/** The unexplained errors as messages; the first few of each kind. */
export const find = (round: Round, compactedAt: bigint): ReadonlyArray<string> => {
  const { history } = round
  return [
    ...some(
      history.calls.filter(isInventedLease),
      (call) => `a call without a lease failed with LeaseNotFound: ${show(call)}`
    ),
    ...some(
      history.calls.filter((call) => isInventedCompaction(call, compactedAt)),
      (call) => `a call failed with Compacted, although nothing it needed was compacted: ${show(call)}`
    ),
    ...some(
      history.watches.filter((watch) => !mayEndSo(watch, compactedAt)),
      (watch) => `a confirmed watch of ${watch.client} ended: ${JSON.stringify(watch.ended!.how, replacer)}`
    ),
    ...errorsInCalmTime(round).flatMap((errors) =>
      some(errors.filter(({ isExcused }) => !isExcused), ({ message }) => message)
    )
  ]
}

/** How many errors are excused by measured stalls alone. */
export const countExcused = (round: Round): number =>
  errorsInCalmTime(round).flat().filter(({ isExcused }) => isExcused).length

/** An error without a fault to explain it. */
interface ErrorInCalmTime {
  readonly message: string
  /** Whether measured stalls explain it. */
  readonly isExcused: boolean
}

/** By kind: failed calls, lost locks, and lost sessions. */
const errorsInCalmTime = (round: Round): ReadonlyArray<ReadonlyArray<ErrorInCalmTime>> => {
  const { history } = round
  const { isCalm, ofFailure, ofLoss } = explanationsOf(round)
  return [
    history.calls.filter(isOutOfReach).flatMap((call) => {
      const window = windowOf(call)
      return window === undefined || !isCalm(call.client, window)
        ? []
        : [{ message: `a call failed when nothing was broken: ${show(call)}`, isExcused: ofFailure(window) }]
    }),
    history.holdings.flatMap(({ acquired, client, ended, lock, token }) =>
      ended?.how !== "Lost" || !isCalm(client, { from: acquired.nanos, to: ended.at.nanos })
        ? []
        : [{
          message: `${client} lost ${lock} with token ${token} when nothing was broken`,
          isExcused: ofLoss(ended.at)
        }]
    ),
    residentsPutAgain(history).flatMap((call) => {
      const window = windowOf(call)
      return window === undefined || !isCalm(call.client, window)
        ? []
        : [{
          message: `${call.client} lost its temporary key, and with it its session, when nothing was broken`,
          isExcused: ofLoss(call.invoked)
        }]
    })
  ]
}

/** Puts of temporary keys that the client had put before. A client keeps its key unless it loses its session. */
const residentsPutAgain = ({ calls }: History.History): ReadonlyArray<History.Call> => {
  const had = new Set<string>()
  return calls.filter((call) => {
    if (!isPutOf(call, isResidentKey)) return false
    const { client } = call
    const isAgain = had.has(client)
    had.add(client)
    return isAgain
  })
}

/** How many errors of each kind are shown. */
const shown = 5

const some = <A>(all: ReadonlyArray<A>, print: (one: A) => string): ReadonlyArray<string> =>
  all.slice(0, shown).map((one, i) =>
    i === shown - 1 && all.length > shown ? `${print(one)}, and ${all.length - shown} more` : print(one)
  )

const show = ({ client, outcome, request }: History.Call): string =>
  JSON.stringify({ client, request, outcome }, replacer).slice(0, 300)

const replacer = (_: string, value: unknown): unknown => typeof value === "bigint" ? `${value}` : value

const failedWith = ({ outcome }: History.Call, ...reasons: ReadonlyArray<string>): boolean =>
  outcome._tag === "Failed" && reasons.includes(outcome.reason)

const isOutOfReach = (call: History.Call): boolean =>
  failedWith(call, "Unavailable", "DeadlineExceeded", "Indeterminate")

const isInventedLease = (call: History.Call): boolean =>
  failedWith(call, "LeaseNotFound") &&
  (call.request._tag === "LeaseGrant" || call.request._tag === "Execute" && !anyOp(call.request.op, hasLease))

/**
 * Only reads at a past revision can need compacted history. The revision of the compaction itself is still available.
 */
const isInventedCompaction = (call: History.Call, compactedAt: bigint): boolean =>
  failedWith(call, "Compacted") &&
  !(call.request._tag === "Execute" &&
    anyOp(call.request.op, (op) => op._tag === "Range" && op.revision !== undefined && op.revision < compactedAt))

const hasLease = (op: Op.Op): boolean => op._tag === "Put" && op.lease !== undefined && op.lease !== 0n

const anyOp = (op: Op.Op, is: (op: Op.Op) => boolean): boolean =>
  is(op) || op._tag === "Txn" && [...op.then, ...op.else].some((inner) => anyOp(inner, is))

/**
 * Once the store has confirmed a watch, only the compaction of undelivered history or the closing of its client ends
 * it.
 */
const mayEndSo = ({ batches, confirmed, ended }: History.WatchCall, compactedAt: bigint): boolean => {
  if (confirmed === undefined || ended === undefined || ended.how._tag !== "Failed") return true
  const { compactRevision, reason } = ended.how
  const delivered = batches.at(-1)?.revision ?? confirmed.revision
  return reason === "Closed" ||
    reason === "Compacted" && compactRevision !== undefined && compactRevision > delivered &&
      compactRevision <= compactedAt
}

/** How long after a fault its last effects may appear, also at a waiter for something the fault took away, in nanoseconds. */
const aftermath = 5_000_000_000n

/** The longest time after a stall of the event loop in which it explains an error: when a session notices its loss. */
const aftermathOfStall = 2_000_000_000n

/** A shorter stall of the event loop explains no error: every lease and deadline is several times as long. In milliseconds. */
const shortStall = 300

/** The time to live of sessions, in nanoseconds. */
const sessionTtl = 2_000_000_000n

/** Whether the round explains an error of a client, by its faults or by stalls that it measured. */
interface Explanations {
  /** Whether stalls took so much of a failed call's own time that it had to fail, or a long one ended just before it. */
  readonly ofFailure: (window: Span.Span) => boolean
  /** Whether stalls took so much of the time to live of a session that ended now that it could not be renewed. */
  readonly ofLoss: (ended: History.Moment) => boolean
  /** Whether no fault disturbed a client in a window, nor for a while before it. */
  readonly isCalm: (client: string, window: Span.Span) => boolean
}

/**
 * A stall must take this part of a window to explain that something failed in it. A session of 2 seconds that is renewed
 * after a third of them gets lost only if there is no response for 1.2 seconds.
 */
const explainingPart = 0.5

const explanationsOf = (round: Round): Explanations => {
  const stalls = Span.merge([...round.eventLoopStalls, ...round.serverStalls])
  const byStalls = (window: Span.Span) =>
    Span.covered(stalls, window) >= Math.max(shortStall, Span.millis(window) * explainingPart)
  // A stall breaks connections: calls may still fail for as long as it lasted.
  const longStalls = round.eventLoopStalls.filter((stall) => Span.millis(stall) > shortStall).map(({ from, to }) => ({
    from,
    to: to + (to - from < aftermathOfStall ? to - from : aftermathOfStall)
  }))
  const ofClient = new Map<string, ReadonlyArray<Span.Span>>()
  const disturbancesOf = (client: string) => {
    const spans = ofClient.get(client) ??
      Disturbances.faultsOf(round, client).map(({ from, to }) => ({ from, to: to + aftermath }))
    ofClient.set(client, spans)
    return spans
  }
  return {
    ofFailure: (window) =>
      byStalls(window) || longStalls.some(({ from, to }) => from <= window.from && to > window.from),
    ofLoss: ({ nanos }) => byStalls({ from: nanos - sessionTtl, to: nanos }),
    isCalm: (client, window) =>
      window.to < round.stopped && !disturbancesOf(client).some(({ from, to }) => from < window.to && to > window.from)
  }
}

/** A call's own time, if it has ended. */
const windowOf = ({ completed, invoked }: History.Call): Span.Span | undefined =>
  completed && { from: invoked.nanos, to: completed.nanos }
