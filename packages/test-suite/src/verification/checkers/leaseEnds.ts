/**
 * Checks of the ends of leases: none may end before its time to live has passed.
 */
import type * as History from "../history/History.ts"
import type { LeaseEnd } from "./attribution.ts"
import { clockTolerance } from "./leaseResponses.ts"
import type { SeenRevisions } from "./responses.ts"
import type { Violation } from "./RevisionViolation.ts"

/**
 * The leases that ended too early. Unless it is revoked, a lease lives for its time to live since the last grant or renewal,
 * counted from the invocation, because the store executed it later.
 */
export const earlyEnds = (
  calls: ReadonlyArray<History.Call>,
  ends: ReadonlyArray<LeaseEnd>,
  seenRevisions: SeenRevisions
): ReadonlyArray<Violation> => {
  const callsOf = Map.groupBy(calls, leaseOf)
  return ends.flatMap(({ lease, revision }): ReadonlyArray<Violation> => {
    const seen = seenRevisions.of(revision)
    if (seen === undefined) return []
    const before = (callsOf.get(lease) ?? []).filter((call) => call.invoked.order < seen.at.order)
    if (before.some(mayHaveRevoked)) return []
    const [last] = before
      .flatMap((call) => {
        const ttl = grantedMillis(call)
        return ttl === undefined ? [] : [{ call, deadline: call.invoked.nanos + BigInt(Math.round(ttl)) * 1_000_000n }]
      })
      .toSorted((a, b) => a.deadline > b.deadline ? -1 : 1)
    if (last === undefined || seen.at.nanos >= last.deadline - clockTolerance) return []
    return [{
      kind: "LeaseEndedEarly",
      message: `the lease ${lease.toString(16)} had ended at revision ${revision}, which was seen ` +
        `${Number(last.deadline - seen.at.nanos) / 1e6} ms before its time to live had passed, and no call revoked it`,
      records: [last.call.id, seen.record],
      revision,
      lease
    }]
  })
}

const leaseOf = ({ outcome, request }: History.Call): bigint | undefined => {
  switch (request._tag) {
    case "LeaseGrant":
      return outcome._tag === "Responded" && outcome.response._tag === "Lease" ? outcome.response.id : undefined
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

/** The time for which this call guarantees the lease, counted from its invocation. */
const grantedMillis = ({ outcome }: History.Call): number | undefined =>
  outcome._tag === "Responded" && outcome.response._tag === "Lease" ? outcome.response.ttlMillis : undefined
