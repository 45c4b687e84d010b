/**
 * Leases: their keys are deleted when they are revoked or expire.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Lease from "@effect-kv/core/Lease"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { chapter, newClient, reasonOf, rejects, revisionOf, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf, keysOf, putAll, textOf } from "./entries.ts"

const hour = { ttl: "1 hour" } as const

const isGone = (kv: Kv.Kv, key: string) => Effect.map(kv.get(key), Option.isNone)

/** A lease that was revoked. */
const deadLease = Effect.fnUntraced(function*(kv: Kv.Kv) {
  const { id } = yield* backendOf(kv).leaseGrant(hour)
  yield* backendOf(kv).leaseRevoke(id)
  return id
})

/** Renews the lease `times` times, every half second of the store's time. */
const keepAliveFor = Effect.fnUntraced(function*(kv: Kv.Kv, id: bigint, times: number) {
  const store = yield* Store
  for (let i = 0; i < times; i++) {
    yield* store.passTime("500 millis")
    yield* backendOf(kv).leaseKeepAlive(id)
  }
})

export const cases = chapter("leases", [
  test("a lease is granted for at least the requested time, in whole seconds", function*(kv) {
    const requested = ["1 milli", "1 second", "1500 millis", "5 seconds", "1 minute", "1 day"] as const
    for (const ttl of requested) {
      const lease = yield* backendOf(kv).leaseGrant({ ttl })
      assert.isAtLeast(Duration.toMillis(lease.ttl), Duration.toMillis(ttl))
      assert.strictEqual(Duration.toMillis(lease.ttl) % 1000, 0)
    }
    const long = yield* backendOf(kv).leaseGrant({ ttl: Duration.seconds(Lease.maxTtlSeconds) })
    assert.strictEqual(Duration.toSeconds(long.ttl), Lease.maxTtlSeconds)
  }),

  test("a lease is granted for at least 2 seconds", function*(kv) {
    const lease = yield* backendOf(kv).leaseGrant({ ttl: "1 second" })
    assert.strictEqual(Duration.toMillis(lease.ttl), 2000)
    assert.strictEqual(Duration.toMillis((yield* backendOf(kv).leaseTimeToLive(lease.id)).grantedTtl), 2000)
    assert.strictEqual(Duration.toMillis((yield* backendOf(kv).leaseKeepAlive(lease.id)).ttl), 2000)
  }),

  test("a grant whose time to live is not positive or too long is rejected", function*(kv) {
    const bad = [
      0,
      -1,
      Number.NaN,
      "-5 seconds",
      Duration.infinity,
      Duration.seconds(Lease.maxTtlSeconds + 1)
    ] as ReadonlyArray<Duration.Input>
    for (const ttl of bad) yield* rejects(kv, "InvalidRequest", backendOf(kv).leaseGrant({ ttl }))
  }),

  test("each lease has a distinct id, a positive 64-bit integer", function*(kv) {
    const leases = yield* Effect.replicateEffect(backendOf(kv).leaseGrant(hour), 20)
    const ids = leases.map((lease) => lease.id)
    assert.strictEqual(new Set(ids).size, 20)
    assert.isTrue(ids.every((id) => id > 0n && id < 2n ** 63n))
  }),

  test("a lease can be granted with a chosen id, which must be free", function*(kv) {
    const id = 2n ** 62n + 1n
    assert.strictEqual((yield* backendOf(kv).leaseGrant({ ...hour, id })).id, id)
    yield* rejects(kv, "LeaseExists", backendOf(kv).leaseGrant({ ...hour, id }))
    yield* kv.put("k", "v", { lease: id })
    assert.deepStrictEqual((yield* entryOf(kv, "k")).lease, Option.some(id))
    assert.deepStrictEqual((yield* backendOf(kv).leaseTimeToLive(id, { keys: true })).keys, ["k"])
    yield* backendOf(kv).leaseRevoke(id)
    assert.strictEqual((yield* backendOf(kv).leaseGrant({ ...hour, id })).id, id)
    assert.deepStrictEqual((yield* backendOf(kv).leaseTimeToLive(id, { keys: true })).keys, [])
    yield* backendOf(kv).leaseRevoke(id)
  }),

  test("a grant with an id that is not a positive 64-bit integer is rejected", function*(kv) {
    for (const id of [0n, -1n, 2n ** 63n]) {
      yield* rejects(kv, "InvalidRequest", backendOf(kv).leaseGrant({ ...hour, id }))
      yield* rejects(kv, "InvalidRequest", kv.put("k", "v", { lease: id === -1n ? 0n : 2n ** 63n }))
    }
  }),

  test("every operation with an unknown lease fails with LeaseNotFound", function*(kv) {
    for (const id of [4711n, 2n ** 63n - 1n, yield* deadLease(kv)]) {
      yield* rejects(kv, "LeaseNotFound", kv.put("k", "v", { lease: id }))
      yield* rejects(kv, "LeaseNotFound", kv.txn({ then: [Op.put("l", "v"), Op.put("k", "v", { lease: id })] }))
      yield* rejects(kv, "LeaseNotFound", backendOf(kv).leaseKeepAlive(id))
      yield* rejects(kv, "LeaseNotFound", backendOf(kv).leaseRevoke(id))
      yield* rejects(kv, "LeaseNotFound", backendOf(kv).leaseTimeToLive(id))
      yield* rejects(kv, "LeaseNotFound", backendOf(kv).leaseTimeToLive(id, { keys: true }))
    }
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("every operation with an invalid lease id is rejected", function*(kv) {
    for (const id of [0n, 2n ** 63n, -(2n ** 63n) - 1n]) {
      yield* rejects(kv, "InvalidRequest", backendOf(kv).leaseKeepAlive(id))
      yield* rejects(kv, "InvalidRequest", backendOf(kv).leaseRevoke(id))
      yield* rejects(kv, "InvalidRequest", backendOf(kv).leaseTimeToLive(id))
    }
  }),

  test("granting and renewing a lease does not raise the revision", function*(kv) {
    const before = yield* revisionOf(kv)
    const { id } = yield* backendOf(kv).leaseGrant(hour)
    yield* backendOf(kv).leaseKeepAlive(id)
    yield* backendOf(kv).leaseTimeToLive(id)
    yield* backendOf(kv).leaseRevoke(id)
    assert.strictEqual(yield* revisionOf(kv), before)
  }),

  test("revoking a lease deletes its keys at one revision, and no others", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant(hour)
    yield* putAll(kv, ["free"])
    yield* kv.put("a", "1", { lease: id })
    yield* kv.txn({ then: [Op.put("b", "2", { lease: id }), Op.put("c", "3")] })
    const before = yield* revisionOf(kv)
    yield* backendOf(kv).leaseRevoke(id)
    assert.strictEqual(yield* revisionOf(kv), before + 1n)
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["c", "free"])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all, { revision: before })), ["a", "b", "c", "free"])
  }),

  test("an entry has the lease it was put with", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant(hour)
    yield* kv.put("k", "v", { lease: id })
    assert.deepStrictEqual((yield* entryOf(kv, "k")).lease, Option.some(id))
    const { previous } = yield* kv.put("k", "w", { previous: true })
    assert.deepStrictEqual(Option.flatMap(previous, (entry) => entry.lease), Option.some(id))
  }),

  test("a put without a lease detaches the key from its lease", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant(hour)
    yield* kv.put("k", "v", { lease: id })
    yield* kv.put("k", "v")
    assert.deepStrictEqual((yield* entryOf(kv, "k")).lease, Option.none())
    assert.deepStrictEqual((yield* backendOf(kv).leaseTimeToLive(id, { keys: true })).keys, [])
    yield* backendOf(kv).leaseRevoke(id)
    assert.strictEqual(yield* textOf(kv, "k"), "v")
  }),

  test("a put with the lease of another entry attaches the key to it, and to none if that has none", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant(hour)
    yield* kv.put("leased", "v", { lease: id })
    for (const lease of [(yield* entryOf(kv, "leased")).lease, Option.none()]) {
      yield* kv.put("k", "v", { lease })
      assert.deepStrictEqual((yield* entryOf(kv, "k")).lease, lease)
    }
  }),

  test("a put with another lease moves the key to it", function*(kv) {
    const first = yield* backendOf(kv).leaseGrant(hour)
    const second = yield* backendOf(kv).leaseGrant(hour)
    yield* kv.put("k", "v", { lease: first.id })
    yield* kv.put("k", "v", { lease: second.id })
    assert.deepStrictEqual((yield* backendOf(kv).leaseTimeToLive(first.id, { keys: true })).keys, [])
    assert.deepStrictEqual((yield* backendOf(kv).leaseTimeToLive(second.id, { keys: true })).keys, ["k"])
    yield* backendOf(kv).leaseRevoke(first.id)
    assert.strictEqual(yield* textOf(kv, "k"), "v")
    yield* backendOf(kv).leaseRevoke(second.id)
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
  }),

  test("a key that is deleted and put again is not attached to its former lease", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant(hour)
    yield* kv.put("k", "v", { lease: id })
    yield* kv.delete("k")
    assert.deepStrictEqual((yield* backendOf(kv).leaseTimeToLive(id, { keys: true })).keys, [])
    yield* kv.put("k", "w")
    yield* backendOf(kv).leaseRevoke(id)
    assert.strictEqual(yield* textOf(kv, "k"), "w")
  }),

  test("revoking a lease without keys does not raise the revision", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant(hour)
    const { revision } = yield* kv.put("k", "v")
    yield* backendOf(kv).leaseRevoke(id)
    assert.strictEqual(yield* revisionOf(kv), revision)
  }),

  test("leaseTimeToLive returns the granted and the remaining time, and on request the keys in order", function*(kv) {
    const { id, ttl } = yield* backendOf(kv).leaseGrant({ ttl: "100 seconds" })
    yield* Effect.forEach(["\u{10000}", "b", "\uffff", "a"], (key) => kv.put(key, "v", { lease: id }))
    const status = yield* backendOf(kv).leaseTimeToLive(id)
    assert.deepStrictEqual([status.id, Duration.toMillis(status.grantedTtl)], [id, Duration.toMillis(ttl)])
    const remaining = Duration.toSeconds(status.remaining)
    assert.isTrue(remaining > 90 && remaining <= 100 && Number.isInteger(remaining), `${remaining}`)
    assert.deepStrictEqual(status.keys, [])
    assert.deepStrictEqual((yield* backendOf(kv).leaseTimeToLive(id, { keys: true })).keys, [
      "a",
      "b",
      "\uffff",
      "\u{10000}"
    ])
  }),

  test("the functions of the Lease module call the store", function*(kv) {
    const provided = Effect.gen(function*() {
      const { id } = yield* Lease.grant({ ttl: "30 seconds" })
      assert.strictEqual((yield* Lease.keepAlive(id)).id, id)
      assert.strictEqual(Duration.toSeconds((yield* Lease.timeToLive(id)).grantedTtl), 30)
      yield* Lease.revoke(id)
      return id
    })
    const id = yield* Effect.provideService(provided, Kv.Kv, kv)
    yield* rejects(kv, "LeaseNotFound", backendOf(kv).leaseTimeToLive(id))
  }),

  test("a lease belongs to the store, not to the client that requested it", function*(kv) {
    const scope = yield* Scope.make()
    const first = yield* Scope.provide(newClient, scope)
    const { id } = yield* backendOf(first).leaseGrant(hour)
    yield* first.put("k", "v", { lease: id })
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual(yield* textOf(kv, "k"), "v")
    assert.strictEqual((yield* backendOf(kv).leaseKeepAlive(id)).id, id)
    yield* backendOf(kv).leaseRevoke(id)
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
  }),

  waitingTest("a lease that is not renewed expires, and its keys are deleted at one revision", function*(kv) {
    const { id, ttl } = yield* backendOf(kv).leaseGrant({ ttl: "2 seconds" })
    yield* kv.txn({ then: [Op.put("expiry/a", "1", { lease: id }), Op.put("expiry/b", "2", { lease: id })] })
    const store = yield* Store
    yield* store.passTime(Duration.millis(Duration.toMillis(ttl) / 2))
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.prefix("expiry/"))), ["expiry/a", "expiry/b"])
    yield* waitUntil("the keys are deleted", isGone(kv, "expiry/a"))
    assert.strictEqual(yield* kv.count(KeyRange.prefix("expiry/")), 0)
    assert.strictEqual((yield* reasonOf(backendOf(kv).leaseKeepAlive(id)))._tag, "LeaseNotFound")
    assert.strictEqual((yield* reasonOf(backendOf(kv).leaseTimeToLive(id)))._tag, "LeaseNotFound")
    assert.strictEqual((yield* reasonOf(kv.put("expiry/a", "3", { lease: id })))._tag, "LeaseNotFound")
  }),

  waitingTest("a lease that is renewed does not expire, and keeps its keys", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "2 seconds" })
    yield* kv.put("kept/a", "v", { lease: id })
    yield* keepAliveFor(kv, id, 10)
    assert.strictEqual(yield* textOf(kv, "kept/a"), "v")
    yield* waitUntil("the key is deleted once its lease is not renewed", isGone(kv, "kept/a"))
  }),

  waitingTest("the remaining time of a lease decreases, and a renewal resets it", function*(kv) {
    const store = yield* Store
    const remaining = (id: bigint) =>
      Effect.map(backendOf(kv).leaseTimeToLive(id), (status) => Duration.toSeconds(status.remaining))
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "100 seconds" })
    yield* store.passTime("3 seconds")
    const later = yield* remaining(id)
    assert.isTrue(later > 80 && later <= 97, `${later}`)
    yield* backendOf(kv).leaseKeepAlive(id)
    assert.isAbove(yield* remaining(id), later)
    yield* backendOf(kv).leaseRevoke(id)
  }),

  waitingTest("a key that was detached, moved or put again outlives its former lease", function*(kv) {
    const short = yield* backendOf(kv).leaseGrant({ ttl: "2 seconds" })
    const long = yield* backendOf(kv).leaseGrant(hour)
    const keys = ["outlive/attached", "outlive/detached", "outlive/moved", "outlive/recreated"]
    yield* Effect.forEach(keys, (key) => kv.put(key, "v", { lease: short.id }))
    yield* kv.put("outlive/detached", "v")
    yield* kv.put("outlive/moved", "v", { lease: long.id })
    yield* kv.delete("outlive/recreated")
    yield* kv.put("outlive/recreated", "v")
    yield* waitUntil("the attached key is deleted", isGone(kv, "outlive/attached"))
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.prefix("outlive/"))), [
      "outlive/detached",
      "outlive/moved",
      "outlive/recreated"
    ])
  }),

  waitingTest("each lease expires after its own time to live", function*(kv) {
    const first = yield* backendOf(kv).leaseGrant({ ttl: "2 seconds" })
    const second = yield* backendOf(kv).leaseGrant({ ttl: "5 seconds" })
    yield* kv.put("own/first", "v", { lease: first.id })
    yield* kv.put("own/second", "v", { lease: second.id })
    yield* waitUntil("the first key is deleted", isGone(kv, "own/first"))
    assert.strictEqual(yield* textOf(kv, "own/second"), "v")
    yield* waitUntil("the second key is deleted", isGone(kv, "own/second"))
  })
])
