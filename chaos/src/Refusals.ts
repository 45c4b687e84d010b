/**
 * Errors that nothing explains. The checkers take a client's word for why it failed; here that word is weighed against
 * what was broken then, what was compacted, and what was asked.
 */
import type * as Op from "@effect-kv/core/Op"
import type { History } from "@effect-kv/test-suite/verification"
import { isPutOf } from "./Availability.ts"
import * as Disturbances from "./Disturbances.ts"
import type { Round } from "./Round.ts"
import { isResidentKey } from "./work/leases.ts"

/** What was refused without a reason, in words; of each kind the first few. */
export const find = (round: Round, compactedAt: bigint): ReadonlyArray<string> => {
  const { history } = round
  const calm = calmTimes(round)
  return [
    ...some(history.calls.filter(isInventedLease), (call) => `a call that has no lease failed: ${show(call)}`),
    ...some(
      history.calls.filter((call) => isInventedCompaction(call, compactedAt)),
      (call) => `nothing that a call needed was compacted: ${show(call)}`
    ),
    ...some(
      history.watches.filter((watch) => !mayEndSo(watch, compactedAt)),
      (watch) =>
        `a watch of ${watch.client} that was confirmed ended by itself: ${JSON.stringify(watch.ended!.how, replacer)}`
    ),
    ...some(
      history.calls.filter((call) =>
        isOutOfReach(call) && !isShortRenewal(call) && calm(call.client, call.invoked, call.completed)
      ),
      (call) => `a call failed when nothing was broken: ${show(call)}`
    ),
    ...some(
      history.holdings.filter(({ acquired, client, ended }) =>
        ended?.how === "Lost" && calm(client, acquired, ended.at)
      ),
      (holding) => `${holding.client} lost ${holding.lock} with token ${holding.token} when nothing was broken`
    ),
    ...some(
      residentsPutAgain(history).filter((call) => calm(call.client, call.invoked, call.completed)),
      ({ client }) => `${client} lost its temporary key, and with it its session, when nothing was broken`
    )
  ]
}

/** The puts of temporary keys that clients had before: a client has it all the time, unless it loses its session. */
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

/** How many are told of each kind. */
const told = 5

const some = <A>(all: ReadonlyArray<A>, tell: (one: A) => string): ReadonlyArray<string> =>
  all.slice(0, told).map((one, i) =>
    i === told - 1 && all.length > told ? `${tell(one)}, and ${all.length - told} more` : tell(one)
  )

const show = ({ client, outcome, request }: History.Call): string =>
  JSON.stringify({ client, ...request, ...outcome }, replacer).slice(0, 300)

const replacer = (_: string, value: unknown): unknown => typeof value === "bigint" ? `${value}` : value

const failedWith = ({ outcome }: History.Call, ...reasons: ReadonlyArray<string>): boolean =>
  outcome._tag === "Failed" && reasons.includes(outcome.reason)

const isOutOfReach = (call: History.Call): boolean =>
  failedWith(call, "Unavailable", "DeadlineExceeded", "Indeterminate")

/**
 * A renewal has a third of its session's two seconds. A server that shares two busy cores with three clients can take that
 * long. That a session or a lock is lost without a fault is found by itself.
 */
const isShortRenewal = ({ completed, invoked, request }: History.Call): boolean =>
  request._tag === "LeaseKeepAlive" && completed !== undefined && completed.nanos - invoked.nanos > 500_000_000n

const isInventedLease = (call: History.Call): boolean =>
  failedWith(call, "LeaseNotFound") &&
  (call.request._tag === "LeaseGrant" || call.request._tag === "Execute" && !anyOp(call.request.op, hasLease))

/** Only reads of the past need what may be compacted. At the revision of the compaction itself they do not. */
const isInventedCompaction = (call: History.Call, compactedAt: bigint): boolean =>
  failedWith(call, "Compacted") &&
  !(call.request._tag === "Execute" &&
    anyOp(call.request.op, (op) => op._tag === "Range" && op.revision !== undefined && op.revision < compactedAt))

const hasLease = (op: Op.Op): boolean => op._tag === "Put" && op.lease !== undefined && op.lease !== 0n

const anyOp = (op: Op.Op, is: (op: Op.Op) => boolean): boolean =>
  is(op) || op._tag === "Txn" && [...op.then, ...op.else].some((inner) => anyOp(inner, is))

/** Once the store has confirmed a watch, nothing ends it but a compaction of what it had not delivered yet. */
const mayEndSo = ({ batches, confirmed, ended }: History.WatchCall, compactedAt: bigint): boolean => {
  if (confirmed === undefined || ended === undefined || ended.how._tag !== "Failed") return true
  const { compactRevision, reason } = ended.how
  const delivered = batches.at(-1)?.revision ?? confirmed.revision
  return reason === "Closed" ||
    reason === "Compacted" && compactRevision !== undefined && compactRevision > delivered &&
      compactRevision <= compactedAt
}

/** How long after a fault the last of it may still be felt, in nanoseconds: also by whoever waits for what it has lost. */
const aftermath = 5_000_000_000n

/** A standstill that is shorter explains no error: every lease and deadline is several times as long. In nanoseconds. */
const hiccup = 300_000_000n

/**
 * Whether the process stood still, in however short pieces, for more than a quarter of the two seconds that a session has: it
 * may then lose one, beside other work on a machine with two cores.
 */
const isStarved = ({ standstills }: Round, { nanos }: History.Moment): boolean => {
  const within = { from: nanos - sessionNanos, to: nanos }
  return Disturbances.undisturbed(standstills, within) < 0.75 * Number(sessionNanos) / 1e6
}

const sessionNanos = 2_000_000_000n

/** Whether nothing was in a client's way in a time, nor had been for a while before. */
const calmTimes = (whole: Round) => {
  const round = { ...whole, standstills: whole.standstills.filter(({ from, to }) => to - from > hiccup) }
  const ofClient = new Map<string, ReadonlyArray<Disturbances.Span>>()
  return (client: string, from: History.Moment, to: History.Moment | undefined): boolean => {
    const spans = ofClient.get(client) ?? Disturbances.of(round, client)
    ofClient.set(client, spans)
    return to !== undefined && to.nanos < round.stopped && !isStarved(whole, to) &&
      !spans.some((span) => span.from < to.nanos && span.to + aftermath > from.nanos)
  }
}
