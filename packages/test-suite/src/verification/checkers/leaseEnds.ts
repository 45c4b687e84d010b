/**
 * Whether leases lived as long as they were promised to.
 */
import type * as History from "../history/History.ts"
import type { Sights } from "./answers.ts"
import type { LeaseEnd } from "./attribution.ts"
import type { Violation } from "./RevisionViolation.ts"

/** Clocks count in milliseconds, and those of two processes need not be quite the same. */
const tolerance = 10_000_000n

/**
 * The leases that were seen to have ended too early: a lease lives for its time since it was granted or kept alive, unless
 * it is revoked. The time counts from when that was asked for, since the store did it later.
 */
export const earlyEnds = (
  calls: ReadonlyArray<History.Call>,
  ends: ReadonlyArray<LeaseEnd>,
  sights: Sights
): ReadonlyArray<Violation> => {
  const callsOf = Map.groupBy(calls, leaseOf)
  return ends.flatMap(({ lease, revision }): ReadonlyArray<Violation> => {
    const seen = sights.of(revision)
    if (seen === undefined) return []
    const before = (callsOf.get(lease) ?? []).filter((call) => call.invoked.order < seen.at.order)
    if (before.some(mayHaveRevoked)) return []
    const [last] = before
      .flatMap((call) => {
        const ttl = grantedMillis(call)
        return ttl === undefined ? [] : [{ call, deadline: call.invoked.nanos + BigInt(Math.round(ttl)) * 1_000_000n }]
      })
      .toSorted((a, b) => a.deadline > b.deadline ? -1 : 1)
    if (last === undefined || seen.at.nanos >= last.deadline - tolerance) return []
    return [{
      kind: "LeaseEndedEarly",
      message: `the lease ${lease.toString(16)} had ended at revision ${revision}, which was seen ` +
        `${Number(last.deadline - seen.at.nanos) / 1e6} ms before its time had passed, and nobody had revoked it`,
      records: [last.call.id, seen.record],
      revision,
      lease
    }]
  })
}

const leaseOf = ({ outcome, request }: History.Call): bigint | undefined => {
  switch (request._tag) {
    case "LeaseGrant":
      return outcome._tag === "Answered" && outcome.answer._tag === "Lease" ? outcome.answer.id : undefined
    case "LeaseKeepAlive":
    case "LeaseRevoke":
    case "LeaseTimeToLive":
      return request.id
    case "Execute":
      return undefined
  }
}

const mayHaveRevoked = ({ outcome, request }: History.Call): boolean =>
  request._tag === "LeaseRevoke" && !(outcome._tag === "Failed" && outcome.outcome === "NotApplied")

/** For how long a lease lived at least from when this was asked for. */
const grantedMillis = ({ outcome }: History.Call): number | undefined =>
  outcome._tag === "Answered" && outcome.answer._tag === "Lease" ? outcome.answer.ttlMillis : undefined
