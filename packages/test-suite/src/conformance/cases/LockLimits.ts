/**
 * Limits of locks: the time to wait, the time to hold, and valid names.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Lease from "@effect-kv/core/Lease"
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { chapter, promptly, reasonOf, Store, test } from "./Case.ts"
import * as faults from "./faults.ts"
import { contend, contenders, exitOf, failedWith, hold, isFree, on, queue } from "./locking.ts"

export const cases = chapter("limits of locks", [
  test("acquireTimeout ends a wait, reports how long it was, and leaves nothing behind", function*(kv) {
    const store = yield* Store
    const { release } = yield* hold(kv, "l")
    const waiter = yield* queue(kv, "l", { acquireTimeout: "1 second" })
    yield* store.passTime("1 second")
    const error = failedWith(yield* exitOf("the time-out", waiter), "LockTimeout")
    assert.strictEqual(error.lock, "l")
    // Node's timers are in whole milliseconds, and may fire up to one millisecond early.
    assert.isAtLeast(error.waitedMillis, 999)
    assert.isTrue(Option.getOrThrow(error.token) > 0n)
    assert.deepStrictEqual([error.storeFailure, error.blockedBy], [Option.none(), Option.none()])
    assert.strictEqual(yield* contenders(kv, "l"), 1)
    yield* release
    yield* isFree(kv, "l")
  }),

  test("acquireTimeout includes the grant of the lease, which is revoked afterwards", function*(kv) {
    const store = yield* Store
    const slow = faults.make()
    const client = yield* faults.newClientWith(slow)
    const barrier = yield* faults.barrier
    slow.after = (call) => call.kind === "leaseGrant" ? barrier.stop : Effect.void
    const fiber = yield* Effect.forkScoped(
      on(client)(DistLock.withDistLock(Effect.void, "l", { acquireTimeout: "1 second" }))
    )
    yield* barrier.reached
    yield* store.passTime("1 second")
    failedWith(yield* exitOf("the time-out", fiber), "LockTimeout")
    yield* store.passTime("1200 millis")
    assert.strictEqual((yield* reasonOf(backendOf(kv).leaseTimeToLive(slow.leases[0]!)))._tag, "LeaseNotFound")
  }),

  test("a wait with an acquireTimeout can be interrupted", function*(kv) {
    yield* hold(kv, "l")
    const waiter = yield* queue(kv, "l", { acquireTimeout: "1 hour" })
    yield* Fiber.interrupt(waiter)
    assert.strictEqual(yield* contenders(kv, "l"), 1)
  }),

  test("maxHold interrupts the body; its finalizers run while the lock is still held", function*(kv) {
    const store = yield* Store
    const barrier = yield* faults.barrier
    const body = yield* contend(
      kv,
      "l",
      { maxHold: "1 second" },
      () => Effect.ensuring(Effect.never, barrier.stop)
    )
    const next = yield* queue(kv, "l")
    yield* store.passTime("1 second")
    yield* barrier.reached
    yield* store.passTime("3 seconds")
    assert.strictEqual(next.pollUnsafe(), undefined, "the lock is held until the finalizers have run")
    yield* barrier.letGo
    const error = failedWith(yield* exitOf("the limit", body), "LockHoldExceeded")
    assert.deepStrictEqual([error.lock, error.maxHoldMillis], ["l", 1000])
    assert.isTrue((yield* Fiber.join(next)) > error.token)
    yield* isFree(kv, "l")
  }),

  test("maxHold counts from when the lock was acquired, not from when it was requested", function*(kv) {
    const store = yield* Store
    const { release } = yield* hold(kv, "l")
    const waiter = yield* contend(kv, "l", { maxHold: "1 second" }, (lock) => lock.heldFor)
    yield* store.passTime("2 seconds")
    yield* release
    assert.isBelow(Duration.toMillis(yield* Fiber.join(waiter)), 1000)
  }),

  test("acquireTimeout, maxHold and ttl may be longer than timers support", function*(kv) {
    for (const long of [Infinity, Number.MAX_SAFE_INTEGER, "5000000 days"] as const) {
      const ttl = Duration.seconds(Lease.maxTtlSeconds)
      const held = DistLock.withDistLock(Effect.yieldNow, "l", { ttl, acquireTimeout: long, maxHold: long })
      yield* promptly("a lock", on(kv)(held))
    }
    yield* isFree(kv, "l")
    const tooLong = on(kv)(DistLock.withDistLock(Effect.void, "l", { ttl: Infinity }))
    assert.strictEqual(failedWith(yield* Effect.exit(tooLong), "KvError").reason._tag, "InvalidRequest")
  }),

  test("invalid names, descriptions and times to live of locks are an InvalidRequest", function*(kv) {
    const wrong: ReadonlyArray<readonly [DistLock.LockNames, DistLock.Options?]> = [
      [""],
      ["\ud800"],
      [["a", ""]],
      [[] as never],
      ["l", { description: "\udfff" }],
      ["l", { ttl: 0 }],
      ["l", { ttl: Duration.infinity }]
    ]
    for (const [names, options] of wrong) {
      const error = yield* Effect.flip(on(kv)(DistLock.withDistLock(Effect.void, names, options)))
      assert.strictEqual(error._tag === "KvError" ? error.reason._tag : error._tag, "InvalidRequest")
    }
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  })
])
