/**
 * Checks of a complete round: violations of the contract, and reasons why the round is inconclusive.
 */
import { type History, LockChecker, RevisionChecker, Violation, WatchChecker } from "@effect-kv/test-suite/verification"
import * as Availability from "./Availability.ts"
import * as CallDeadlines from "./CallDeadlines.ts"
import * as Counters from "./Counters.ts"
import * as DeposedLeader from "./DeposedLeader.ts"
import type { Backend, Entry, Kind } from "./Fault.ts"
import * as Faults from "./Fault.ts"
import * as Inconclusive from "./Inconclusive.ts"
import * as Observers from "./Observers.ts"
import * as Queues from "./Queues.ts"
import * as Recipes from "./Recipes.ts"
import * as Recovery from "./Recovery.ts"
import type { Round } from "./Round.ts"
import * as Shards from "./Shards.ts"
import * as Span from "./Span.ts"
import type { Testbed } from "./Testbed.ts"
import * as UnexplainedErrors from "./UnexplainedErrors.ts"
import * as elections from "./work/elections.ts"
import * as invoices from "./work/invoices.ts"
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
  readonly backend: Backend
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
  backend: testbed.store.backend,
  compactedAt: testbed.compactedAt,
  evicted: [...testbed.evicted]
})

/** Checks a round. */
export const check = ({ backend, compactedAt, evicted, kinds, prefix, round, schedule }: Case): Findings => {
  const { changes, history, problems } = round
  const revisions = RevisionChecker.check(history, changes, {
    foreign: (key) => invoices.isOfBilling(prefix, key),
    foreignLease: (lease) => evicted.includes(lease)
  })
  const counts = countsOf(round, prefix)
  const revoked = DeposedLeader.revokedLeases(revisions.violations, history, round.appliedFaults)
  const isRevoked = (violation: RevisionChecker.Violation) =>
    violation.lease !== undefined && revoked.has(violation.lease)
  const ended = new Set([...evicted, ...revoked])
  const found = [
    ...revisions.violations.filter((violation) => !isRevoked(violation)),
    ...WatchChecker.check(history, changes, { compactedAt }),
    ...LockChecker.check(history, { changes, counts, permits: Counters.permitsOf(prefix) }).filter((violation) =>
      !isExcused(violation, round, ended)
    )
  ]
  const effects = (outcome: History.FencedEffect["outcome"]) =>
    history.effects.filter((effect) => effect.resource in counts && effect.outcome === outcome).length
  return {
    violations: [
      ...Inconclusive.find(schedule, kinds, round),
      ...problems,
      ...CallDeadlines.find(round),
      ...Recovery.find(round),
      ...Counters.find(changes, prefix, history.holdings),
      ...Object.entries(round.notes.leaders).flatMap(([client, seen]) =>
        Observers.find(client, seen, changes, history, elections.electionName(prefix))
      ),
      ...Recipes.find(changes, prefix, history, round.notes),
      ...Shards.find(changes, prefix),
      ...Queues.find(changes, prefix),
      ...UnexplainedErrors.find(round, compactedAt),
      ...(kinds.length === Faults.kindsOf[backend].length ? tooManyUnknown(round) : []),
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
    Counters.namesOf(prefix).map((lock) => {
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
 * Whether an earlier holder's lease was revoked by the harness or by a deposed leader. Its client notices a moment after
 * the store has given the lock to the next. In between only the fence protects, and that is checked all the same.
 */
const isExcused = (
  violation: Violation.Violation,
  { changes, history }: Round,
  ended: ReadonlySet<bigint>
): boolean => {
  if (!(excusable as ReadonlyArray<string>).includes(violation.kind)) return false
  const holders = history.holdings.filter((holding) => violation.records.includes(holding.id))
    .toSorted((a, b) => a.token < b.token ? -1 : 1)
  const next = holders.at(-1)
  return next !== undefined &&
    holders.slice(0, -1).some((holder) =>
      holder.ended !== undefined && holder.ended.at.nanos < next.acquired.nanos + maxNoticeDelay &&
      // A holder's token is the create revision of its key, and the key is attached to its lease. The lease may change.
      changes.some(({ createRevision, key, lease }) =>
        createRevision === holder.token && key.startsWith(`${holder.lock}/`) && ended.has(lease)
      )
    )
}

const excusable = ["OverlappingHolders", "TokenOrder", "TooManyPermits"] as const

/**
 * The largest share of calls whose outcome may be unknown, if all kinds of faults were requested. Some kinds alone
 * cause more.
 */
const maxUnknownShare = 0.05

/** How many writes a fault may interrupt, however few calls a slow machine makes: those in flight, and some that are repeated. */
const maxUnknownOfFault = 75

const tooManyUnknown = ({ appliedFaults, history: { calls } }: Round): ReadonlyArray<string> => {
  const unknown = calls.filter(Availability.isUnknownWrite).length
  return unknown <= Math.max(calls.length * maxUnknownShare, appliedFaults.length * maxUnknownOfFault)
    ? []
    : [`of ${calls.length} calls ${unknown} have an unknown outcome, more than ${maxUnknownShare * 100} %`]
}
