/**
 * `RevisionChecker` on responses about leases, in small histories that are written by hand.
 */
import * as Op from "@effect-kv/core/Op"
import { History, RevisionChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import { gone, history, kinds, moment, put, read, row, written } from "./smallHistories.ts"

const id = 7n

let calls = 100

/** A call about a lease, by default with a response. */
const call = (
  order: number,
  request: History.Request,
  response: History.Response | "unknown" = { _tag: "Lease", id, ttlMillis: 5000 }
): History.Call => ({
  _tag: "Call",
  id: calls++,
  client: "a",
  request,
  invoked: moment(order),
  completed: moment(order + 1),
  outcome: response === "unknown" ? { _tag: "Interrupted" } : { _tag: "Responded", response }
})

const granted = (order: number, ttlMillis = 5000, requested = 5000): History.Call =>
  call(order, { _tag: "LeaseGrant", ttlMillis: requested, id }, { _tag: "Lease", id, ttlMillis })

const keptAlive = (order: number, ttlMillis = 5000): History.Call =>
  call(order, { _tag: "LeaseKeepAlive", id }, { _tag: "Lease", id, ttlMillis })

const status = (order: number, keys: ReadonlyArray<string>, grantedTtlMillis = 5000, requested = true): History.Call =>
  call(order, { _tag: "LeaseTimeToLive", id, keys: requested }, {
    _tag: "LeaseStatus",
    id,
    grantedTtlMillis,
    remainingMillis: 1000,
    keys
  })

const revoked = (order: number): History.Call => call(order, { _tag: "LeaseRevoke", id }, { _tag: "LeaseRevoked" })

const attached = { ...row("a", "1", 2n), lease: id }
const theirs = row("b", "1", 3n)

/** The lease has a key from revision 2 on. Another key is written at revision 3. */
const changes = [written(attached), written(theirs)]

const puts = history([[2, 3], Op.put("a", "1", { lease: id }), put(2n)], [[20, 21], Op.put("b", "1"), put(3n)]).calls

const kindsOf = (more: ReadonlyArray<History.Call>, all = changes, options: RevisionChecker.Options = {}) => {
  const ordered = [...puts, ...more].toSorted((a, b) => a.invoked.order - b.invoked.order)
  return kinds(RevisionChecker.check({ ...History.empty, calls: ordered }, all, options).violations)
}

describe("RevisionChecker, responses about leases", () => {
  it("consistent responses about a lease are accepted", () => {
    assert.deepStrictEqual(kindsOf([granted(0), keptAlive(4), status(6, ["a"]), status(8, [], 5000, false)]), [])
    assert.deepStrictEqual(kindsOf([granted(0, 6000, 5500), keptAlive(4, 6000)]), [])
  })

  it("a lease granted for less than requested is a violation", () => {
    assert.deepStrictEqual(kindsOf([granted(0, 4000)]), ["WrongLease"])
  })

  it("a grant of another id than requested is a violation", () => {
    const other = call(0, { _tag: "LeaseGrant", ttlMillis: 5000, id: 8n })
    assert.deepStrictEqual(kindsOf([other]), ["WrongLease"])
  })

  it("a response about another lease is a violation", () => {
    const other = call(4, { _tag: "LeaseKeepAlive", id: 8n })
    assert.deepStrictEqual(kindsOf([granted(0), other]), ["WrongLease"])
  })

  it("a time to live other than the granted one is a violation", () => {
    assert.deepStrictEqual(kindsOf([granted(0), keptAlive(4, 6000)]), ["WrongLease"])
    assert.deepStrictEqual(kindsOf([granted(0), status(4, ["a"], 6000)]), ["WrongLease"])
  })

  it("keys that the lease never had, or not together, or that were not requested are a violation", () => {
    assert.deepStrictEqual(kindsOf([granted(0), status(4, ["b"])]), ["WrongLease"])
    assert.deepStrictEqual(kindsOf([granted(0), status(4, ["a", "b"])]), ["WrongLease"])
    assert.deepStrictEqual(kindsOf([granted(0), status(4, ["a", "a"])]), ["WrongLease"])
    assert.deepStrictEqual(kindsOf([granted(0), status(4, ["a"], 5000, false)]), ["WrongLease"])
    assert.deepStrictEqual(kindsOf([granted(0), status(1, [])]), [])
  })

  it("a lease granted twice is a violation, unless it may have ended between", () => {
    assert.deepStrictEqual(kindsOf([granted(0), granted(4)]), ["WrongLease"])
    const late = moment(6000)
    assert.deepStrictEqual(kindsOf([granted(0), { ...granted(30), invoked: late, completed: late }]), [])
    assert.deepStrictEqual(kindsOf([granted(0), call(4, { _tag: "LeaseRevoke", id }, "unknown"), granted(6)]), [])
  })

  it("a confirmed revocation that leaves a key or the lease is a violation", () => {
    // The revision of the later write proves that the key still exists.
    assert.deepStrictEqual(kindsOf([granted(0), revoked(6)]), ["WrongLease"])
    const ended = [written(attached), gone("a", 3n), written(row("b", "1", 4n))]
    const late = history([[20, 21], Op.put("b", "1"), put(4n)]).calls
    const check = (more: ReadonlyArray<History.Call>) =>
      kinds(
        RevisionChecker.check({ ...History.empty, calls: [puts[0]!, granted(0), ...more, ...late] }, ended).violations
      )
    assert.deepStrictEqual(check([revoked(6)]), [])
    assert.include(check([revoked(6), keptAlive(8)]), "WrongLease")
    // A revision seen before proves nothing, nor does a concurrent call.
    assert.deepStrictEqual(check([revoked(6), keptAlive(6)]), [])
  })

  it("the least revision of the calls after a revocation counts", () => {
    // The key is deleted at revision 4, which only the first call had in its response.
    const changes = [written(attached), written(theirs), gone("a", 4n)]
    const others = history(
      [[5, 40], Op.put("b", "1"), put(3n)],
      [[20, 31], Op.get("b"), read(4n, theirs)],
      [[22, 30], Op.get("b"), read(3n, theirs)]
    ).calls.map((call) => ({ ...call, id: call.id + 50 }))
    const check = (others: ReadonlyArray<History.Call>) =>
      kinds(
        RevisionChecker.check({ ...History.empty, calls: [granted(0), puts[0]!, revoked(6), ...others] }, changes)
          .violations
      )
    assert.deepStrictEqual(check(others.slice(0, 2)), [])
    assert.deepStrictEqual(check(others), ["WrongLease"])
  })

  it("a lease whose id is granted again after a revocation is not checked", () => {
    const again = [granted(0), revoked(6), granted(8), keptAlive(10)]
    assert.deepStrictEqual(kindsOf([...again, status(12, ["a"])]), [])
    const lost = [
      granted(0),
      revoked(6),
      call(8, { _tag: "LeaseGrant", ttlMillis: 5000, id }, "unknown"),
      keptAlive(10)
    ]
    assert.deepStrictEqual(kindsOf(lost), [])
  })

  it("a write in flight during a revocation does not count as a later one", () => {
    const before = history([[5, 9], Op.get("b"), read(2n)]).calls.map((call) => ({ ...call, id: 50 }))
    const ended = [written(attached), gone("a", 3n)]
    const all = [granted(0), puts[0]!, ...before, revoked(6)]
    assert.deepStrictEqual(kinds(RevisionChecker.check({ ...History.empty, calls: all }, ended).violations), [])
  })
})
