/**
 * Checks of responses about leases: they must agree with each other and with the keys attached to the leases. `leaseEnds.ts`
 * checks when leases ended.
 */
import * as History from "../history/History.ts"
import { showCall } from "../history/show.ts"
import { isLinearizableRead, responseOf } from "./responses.ts"
import type { Violation } from "./RevisionViolation.ts"
import type { Timeline } from "./Timeline.ts"

type ResponseOf<Tag> = Extract<History.Response, { readonly _tag: Tag }>

/** A call about a lease that got a response. */
interface CallWithResponse<Tag> {
  readonly call: History.Call
  readonly response: ResponseOf<Tag>
}

/** The calls about a lease. */
interface Lease {
  readonly id: bigint
  readonly grants: Array<CallWithResponse<"Lease">>
  readonly renewals: Array<CallWithResponse<"Lease">>
  readonly statuses: Array<CallWithResponse<"LeaseStatus">>
  readonly revocations: Array<History.Call>
  /** Whether there is a grant of unknown outcome that may have had this id. */
  mayBeGrantedAgain: boolean
}

/** The violations in responses about leases. */
export const wrongLeases = (
  timeline: Timeline,
  calls: ReadonlyArray<History.Call>,
  isForeign: (lease: bigint) => boolean
): ReadonlyArray<Violation> => {
  const leases = leasesOf(calls)
  const attachments = new Attachments(timeline)
  const later = new Later(calls)
  return [
    ...calls.flatMap(ofAnotherLease),
    ...Array.from(leases.values(), (lease) => [
      ...wrongTimes(lease),
      ...wrongKeys(lease, attachments),
      ...isForeign(lease.id) ? [] : grantedTwice(lease),
      ...outlived(lease, attachments, later)
    ]).flat()
  ]
}

const leasesOf = (calls: ReadonlyArray<History.Call>): ReadonlyMap<bigint, Lease> => {
  const leases = new Map<bigint, Lease>()
  const leaseOf = (id: bigint): Lease => {
    const known = leases.get(id)
    if (known !== undefined) return known
    const made = { id, grants: [], renewals: [], statuses: [], revocations: [], mayBeGrantedAgain: false }
    leases.set(id, made)
    return made
  }
  for (const call of calls) {
    const { outcome, request } = call
    const response = outcome._tag === "Responded" ? outcome.response : undefined
    switch (request._tag) {
      case "LeaseGrant":
        if (response?._tag === "Lease") leaseOf(response.id).grants.push({ call, response })
        else if (request.id !== undefined && History.isUnknown(call)) leaseOf(request.id).mayBeGrantedAgain = true
        break
      case "LeaseKeepAlive":
        if (response?._tag === "Lease") leaseOf(request.id).renewals.push({ call, response })
        break
      case "LeaseTimeToLive":
        if (response?._tag === "LeaseStatus") leaseOf(request.id).statuses.push({ call, response })
        break
      case "LeaseRevoke":
        if (response !== undefined || History.isUnknown(call)) leaseOf(request.id).revocations.push(call)
        break
      case "Execute":
    }
  }
  return leases
}

const violation = (message: string, ...calls: ReadonlyArray<History.Call>): Violation => ({
  kind: "WrongLease",
  message,
  records: calls.map((call) => call.id)
})

const ofAnotherLease = (call: History.Call): ReadonlyArray<Violation> => {
  const { outcome, request } = call
  if (request._tag === "Execute" || outcome._tag !== "Responded" || !("id" in outcome.response)) return []
  const { id } = outcome.response
  return request.id === undefined || request.id === id
    ? []
    : [violation(`the response to ${showCall(call)} is about the lease ${id.toString(16)}`, call)]
}

/** A lease is granted for at least the requested time, and its granted time does not change. */
const wrongTimes = ({ grants, mayBeGrantedAgain, renewals, statuses }: Lease): ReadonlyArray<Violation> => {
  const short = grants.flatMap(({ response, call }) =>
    call.request._tag === "LeaseGrant" && response.ttlMillis < call.request.ttlMillis
      ? [violation(`${showCall(call)} was granted ${response.ttlMillis} ms`, call)]
      : []
  )
  const [grant, ...others] = grants
  if (grant === undefined || others.length > 0 || mayBeGrantedAgain) return short
  const reported = [
    ...renewals.map(({ response, call }) => [call, response.ttlMillis] as const),
    ...statuses.map(({ response, call }) => [call, response.grantedTtlMillis] as const)
  ]
  return [
    ...short,
    ...reported.flatMap(([call, ttl]) =>
      ttl === grant.response.ttlMillis
        ? []
        : [
          violation(
            `${showCall(call)} has a time to live of ${ttl} ms, and ${grant.response.ttlMillis} ms were granted`,
            grant.call,
            call
          )
        ]
    )
  ]
}

/** The reported keys of a lease are those of some revision. The response does not say which one. */
const wrongKeys = ({ id, statuses }: Lease, attachments: Attachments): ReadonlyArray<Violation> =>
  statuses.flatMap(({ response, call }) => {
    const areRequested = call.request._tag === "LeaseTimeToLive" && call.request.keys
    if (areRequested ? attachments.had(id, response.keys) : response.keys.length === 0) return []
    const keys = JSON.stringify(response.keys)
    return [violation(`${showCall(call)} reports the keys ${keys}, which the lease never had`, call)]
  })

/** In nanoseconds: clocks count in milliseconds and differ slightly between processes. */
export const clockTolerance = 10_000_000n

/** An id is not granted again while its lease is alive. */
const grantedTwice = ({ grants, id, renewals, revocations }: Lease): ReadonlyArray<Violation> =>
  grants.slice(1).flatMap(({ call }, i) => {
    const first = grants[i]!
    const { completed = call.invoked } = call
    if (revocations.some((revocation) => revocation.invoked.order < completed.order)) return []
    const mayHaveEnded = [first, ...renewals].every((alive) =>
      alive.call.invoked.nanos + BigInt(Math.round(alive.response.ttlMillis)) * 1_000_000n - clockTolerance <
        completed.nanos
    )
    return mayHaveEnded
      ? []
      : [violation(`the lease ${id.toString(16)} was granted again before it had ended`, first.call, call)]
  })

/** A revoked lease has no keys and is not found alive, unless its id was granted again. */
const outlived = (
  { grants, id, mayBeGrantedAgain, renewals, revocations, statuses }: Lease,
  attachments: Attachments,
  later: Later
): ReadonlyArray<Violation> => {
  const [revoked] = revocations
    .filter((call) => call.outcome._tag === "Responded")
    .toSorted((a, b) => (a.completed?.order ?? 0) - (b.completed?.order ?? 0))
  if (revoked?.completed === undefined || grants.length > 1 || mayBeGrantedAgain) return []
  const { order } = revoked.completed
  const name = `the lease ${id.toString(16)} was revoked`
  const alive = [...renewals, ...statuses].filter(({ call }) => call.invoked.order > order).map(({ call }) =>
    violation(`${name}, and ${showCall(call)} found it alive`, revoked, call)
  )
  const revision = later.revisionAfter(order)
  const keys = revision === undefined ? [] : attachments.after(id, revision)
  if (revision === undefined || keys.length === 0) return alive
  const kept = violation(`${name}, and at revision ${revision} it still had ${JSON.stringify(keys)}`, revoked)
  return [...alive, { ...kept, revision }]
}

/** The keys attached to each lease over time. */
class Attachments {
  /** For each lease, all sets of keys it had. */
  readonly #sets = new Map<bigint, Set<string>>()
  /** For each lease, its keys, and up to which revision it had them. */
  readonly #until = new Map<bigint, Map<string, bigint>>()

  constructor(timeline: Timeline) {
    const now = new Map<bigint, Set<string>>()
    const change = (lease: bigint, key: string, revision: bigint, isAttached: boolean) => {
      const keys = now.get(lease) ?? new Set<string>()
      now.set(lease, keys)
      const until = this.#until.get(lease) ?? new Map<string, bigint>()
      this.#until.set(lease, until)
      if (isAttached) keys.add(key)
      else keys.delete(key)
      until.set(key, isAttached ? timeline.last : revision - 1n)
      return lease
    }
    for (let revision = timeline.first; revision <= timeline.last; revision++) {
      const changed = new Set<bigint>()
      for (const { after, before, key } of timeline.stepsAt(revision)) {
        if (before !== undefined && before.lease !== 0n) changed.add(change(before.lease, key, revision, false))
        if (after !== undefined && after.lease !== 0n) changed.add(change(after.lease, key, revision, true))
      }
      for (const lease of changed) {
        const sets = this.#sets.get(lease) ?? new Set([setKey([])])
        this.#sets.set(lease, sets.add(setKey([...now.get(lease)!])))
      }
    }
  }

  /** Whether these were the keys of a lease at some revision. */
  had(lease: bigint, keys: ReadonlyArray<string>): boolean {
    return this.#sets.get(lease)?.has(setKey(keys)) ?? keys.length === 0
  }

  /** The keys of a lease at or after a revision. */
  after(lease: bigint, revision: bigint): ReadonlyArray<string> {
    return Array.from(this.#until.get(lease) ?? []).flatMap(([key, until]) => until >= revision ? [key] : [])
  }
}

const setKey = (keys: ReadonlyArray<string>): string => JSON.stringify(keys.toSorted())

/** The least revision of the store at or after a moment. */
class Later {
  /** By invocation, each with the least revision from then on. */
  readonly #responses: ReadonlyArray<readonly [order: number, revision: bigint]>

  constructor(calls: ReadonlyArray<History.Call>) {
    const responses = calls.filter(History.isOpCall).flatMap((call) => {
      const response = responseOf(call)
      return response !== undefined && isLinearizableRead(call.request.op)
        ? [[call.invoked.order, response.revision] as const]
        : []
    }).sort(([a], [b]) => b - a)
    let least: bigint | undefined
    this.#responses = responses.map(([order, revision]) => {
      least = least === undefined || revision < least ? revision : least
      return [order, least] as const
    }).reverse()
  }

  revisionAfter(order: number): bigint | undefined {
    let low = 0
    let high = this.#responses.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#responses[middle]![0] > order) high = middle
      else low = middle + 1
    }
    return this.#responses[low]?.[1]
  }
}
