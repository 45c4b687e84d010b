/**
 * Checks of a complete round: violations of the contract, and reasons why the round is inconclusive.
 */
import type * as History from "@effect-kv/test-suite/History"
import * as LockChecker from "@effect-kv/test-suite/LockChecker"
import * as RevisionChecker from "@effect-kv/test-suite/RevisionChecker"
import * as Violation from "@effect-kv/test-suite/Violation"
import * as WatchChecker from "@effect-kv/test-suite/WatchChecker"
import * as Duration from "effect/Duration"
import * as Availability from "./Availability.ts"
import * as Counters from "./Counters.ts"
import * as DeposedLeader from "./DeposedLeader.ts"
import * as Disturbances from "./Disturbances.ts"
import type { Entry, Kind } from "./Fault.ts"
import * as Faults from "./Fault.ts"
import * as Inconclusive from "./Inconclusive.ts"
import type { Round } from "./Round.ts"
import * as Span from "./Span.ts"
import { deadlineOf, deadlines, type Testbed } from "./Testbed.ts"
import * as UnexplainedErrors from "./UnexplainedErrors.ts"
import { isResidentKey } from "./work/leases.ts"
import * as locks from "./work/locks.ts"

/** The result of the check. */
export interface Findings {
  /** What must not happen, as messages. */
  readonly violations: ReadonlyArray<string>
  /** Writes without a response, by their outcome in the server's history. */
  readonly unknown: {
    readonly applied: number
    readonly notApplied: number
    /** Grants and revocations of leases: the history of the data does not show them. */
    readonly leases: number
  }
  /** Errors that only measured stalls excuse, and how long these lasted, in milliseconds. */
  readonly stalls: { readonly excused: number; readonly eventLoop: number; readonly servers: number }
  /** Leases that etcd ended early, by its own count: see `DeposedLeader.ts`. */
  readonly revokedByDeposed: number
  /** Increments that were accepted under locks, and the final values of the counters. */
  readonly increments: { readonly accepted: number; readonly unknown: number; readonly counted: number }
}

/** Everything that is checked. */
export interface Case {
  readonly schedule: ReadonlyArray<Entry>
  /** The kinds of faults that were requested. */
  readonly kinds: ReadonlyArray<Kind>
  readonly round: Round
  /** The prefix of all keys of the round. */
  readonly prefix: string
  /** The revision of the last compaction. */
  readonly compactedAt: bigint
  /** Leases that the harness revoked. */
  readonly evicted: ReadonlyArray<bigint>
}

/** A round for the check, with what only the testbed knows. */
export const caseOf = (testbed: Testbed, rest: Pick<Case, "schedule" | "kinds" | "round" | "prefix">): Case => ({
  ...rest,
  compactedAt: testbed.compactedAt,
  evicted: [...testbed.evicted]
})

/** Checks a round. */
export const check = ({ compactedAt, evicted, kinds, prefix, round, schedule }: Case): Findings => {
  const { changes, history, problems } = round
  const revisions = RevisionChecker.check(history, changes, { foreignLease: (lease) => evicted.includes(lease) })
  const counts = countsOf(round, prefix)
  const revoked = DeposedLeader.revokedLeases(revisions.violations, history, round.appliedFaults)
  const isRevoked = (violation: RevisionChecker.Violation) =>
    violation.lease !== undefined && revoked.has(violation.lease)
  const ended = new Set([...evicted, ...revoked])
  const found = [
    ...revisions.violations.filter((violation) => !isRevoked(violation)),
    ...WatchChecker.check(history, changes, { compactedAt }),
    ...LockChecker.check(history, { changes, counts }).filter((violation) => !isExcused(violation, round, ended))
  ]
  const effects = (outcome: History.FencedEffect["outcome"]) =>
    history.effects.filter((effect) => effect.outcome === outcome).length
  return {
    violations: [
      ...Inconclusive.find(schedule, kinds, round),
      ...problems,
      ...tooLate(round),
      ...slowRecoveries(round),
      ...missingRecoveries(round),
      ...longSilences(round),
      ...Counters.find(changes, prefix, history.holdings),
      ...UnexplainedErrors.find(round, compactedAt),
      ...(kinds.length === Faults.kinds.length ? tooManyUnknown(history) : []),
      ...found.map((violation) => Violation.print(history, [violation]))
    ],
    stalls: {
      excused: UnexplainedErrors.countExcused(round),
      eventLoop: millisOf(round.eventLoopStalls),
      servers: millisOf(round.serverStalls)
    },
    revokedByDeposed: revoked.size,
    unknown: {
      applied: revisions.unknown.applied.length,
      notApplied: revisions.unknown.notApplied.length,
      leases:
        history.calls.filter((call) => Availability.isUnknownWrite(call) && call.request._tag !== "Execute").length
    },
    increments: {
      accepted: effects("Accepted"),
      unknown: effects("Unknown"),
      counted: Object.values(counts).reduce((a, b) => a + b, 0)
    }
  }
}

const millisOf = (stalls: ReadonlyArray<Span.Span>): number =>
  Span.merge(stalls).reduce((sum, stall) => sum + Span.millis(stall), 0)

/** The final values of the counters. */
const countsOf = ({ changes }: Round, prefix: string): Record<string, number> =>
  Object.fromEntries(
    locks.lockNames(prefix).map((lock) => {
      const counter = locks.counterOf(lock)
      const last = changes.findLast((change) => change.key === counter)
      return [counter, last === undefined ? 0 : locks.countOf(last.value)]
    })
  )

/**
 * How long a client may still consider itself the holder after its lease was revoked: until it notices, on links that
 * may be down.
 */
const maxNoticeDelay = 3_000_000_000n

/**
 * Whether the first holder's lease was revoked by the harness or by a deposed leader. Its client notices a moment after
 * the store has given the lock to the next. In between only the fence protects, and that is checked all the same.
 */
const isExcused = (
  violation: Violation.Violation,
  { changes, history }: Round,
  ended: ReadonlySet<bigint>
): boolean => {
  if (violation.kind !== "OverlappingHolders" && violation.kind !== "TokenOrder") return false
  const [first, next] = history.holdings.filter((holding) => violation.records.includes(holding.id))
    .toSorted((a, b) => a.token < b.token ? -1 : 1)
  if (first?.ended === undefined || next === undefined) return false
  // A holder's token is the revision of its key, and the key is attached to its lease.
  const own = changes.find((change) => change.modRevision === first.token && change.key.startsWith(`${first.lock}/`))
  return own !== undefined && ended.has(own.lease) && first.ended.at.nanos < next.acquired.nanos + maxNoticeDelay
}

/** How much later than its deadline a call may end on a busy machine, in milliseconds. */
const timeTolerance = 1500

/** The deadline of cleanup by locks and sessions, whatever the client's deadline, in milliseconds. */
const ownDeadline = 3000

/** Whether a call may be such a cleanup: it revokes a lease or deletes a key in a transaction. */
const isCleanup = ({ request }: History.Call): boolean =>
  request._tag === "LeaseRevoke" ||
  request._tag === "Execute" && request.op._tag === "Txn" && request.op.then.some(({ _tag }) => _tag === "Delete")

/** Calls that ended long after their deadline, or never. Time in which the event loop stalled does not count. */
const tooLate = ({ eventLoopStalls, history }: Round): ReadonlyArray<string> => {
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
      const limit = Math.max(Duration.toMillis(deadlineOf(client)), isCleanup(call) ? ownDeadline : 0)
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

/** How soon after a fault every service must be back, in milliseconds. */
const recoversWithin = 5000

/**
 * The same for a lock. etcd silently drops requests in flight to a leader that crashes, so a waiter repeats its request
 * only after its deadline. After an outage of all members there was none in flight.
 */
const lockRecoversWithin = (kind: Kind): number =>
  kind === "outage" ? recoversWithin : Duration.toMillis(deadlines[0]!) + timeTolerance + recoversWithin

const slowRecoveries = ({ history, appliedFaults }: Round): ReadonlyArray<string> =>
  [...Availability.outages(history, appliedFaults, isResidentKey)].flatMap(([kind, outage]) =>
    Availability.services.flatMap((service) => {
      const after = outage[service] ?? 0
      const limit = service === "lock" ? lockRecoversWithin(kind) : recoversWithin
      return after <= limit ? [] : [`the first ${service} came ${(after / 1000).toFixed(1)} s after ${kind}`]
    })
  )

/** After an outage of all members every service must return: all leases have expired by then. */
const missingRecoveries = ({ history, appliedFaults }: Round): ReadonlyArray<string> => {
  const long = appliedFaults.filter(({ fault }) => fault.kind === "outage" && fault.millis >= 5000)
  return long.flatMap((outage) => {
    const after = Availability.outages(history, [outage], isResidentKey).get("outage")
    return Availability.services.flatMap((service) =>
      after?.[service] === undefined ? [`no ${service} came after an outage of ${outage.fault.millis / 1000} s`] : []
    )
  })
}

/** The same if the next fault started before the service was back: only the undisturbed time counts. */
const longSilences = (round: Round): ReadonlyArray<string> =>
  [...Disturbances.silences(round)].flatMap(([what, { millis, service }]) =>
    millis <= (service === "lock" ? lockRecoversWithin("kill-leader") : recoversWithin)
      ? []
      : [`there was no ${what} for ${(millis / 1000).toFixed(1)} undisturbed seconds`]
  )

/**
 * The largest share of calls whose outcome may be unknown, if all kinds of faults were requested. Some kinds alone
 * cause more.
 */
const maxUnknownShare = 0.05

const tooManyUnknown = ({ calls }: History.History): ReadonlyArray<string> => {
  const unknown = calls.filter(Availability.isUnknownWrite).length
  return unknown <= calls.length * maxUnknownShare
    ? []
    : [`of ${calls.length} calls ${unknown} have an unknown outcome, more than ${maxUnknownShare * 100} %`]
}
