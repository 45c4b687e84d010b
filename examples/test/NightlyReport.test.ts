/**
 * One report a day, whichever instance makes it, and none from an instance that lost the lock.
 */
import { DistLock, Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { lockName, nightlyReport } from "../src/NightlyReport.ts"

/** Takes the lock from its holder, as an operator or the expiry of a lease does. */
const deleteLockKey = Effect.gen(function*() {
  const holder = yield* DistLock.holder(lockName)
  yield* Kv.delete(Option.getOrThrow(holder).key)
})

it.effect("one of many instances makes the report, and the others find it", () =>
  Effect.gen(function*() {
    let written = 0
    const instances = Array.from({ length: 10 }, (_, index) => `instance-${index}`)
    const outcomes = yield* Effect.forEach(
      instances,
      (instance) => nightlyReport(instance, "monday", Effect.sync(() => `${++written}`)),
      { concurrency: "unbounded" }
    )
    assert.deepStrictEqual(outcomes.filter((outcome) => outcome === "made").length, 1)
    assert.strictEqual(written, 1)
    assert.deepStrictEqual(yield* Kv.get("reports/monday"), Option.some("1"))
    assert.isTrue(Option.isNone(yield* DistLock.holder(lockName)))
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.effect("an instance that lost the lock is interrupted, fails with LockLost, and writes nothing", () =>
  Effect.gen(function*() {
    const working = yield* Deferred.make<void>()
    const report = Effect.andThen(Deferred.succeed(working, undefined), Effect.never)
    const fiber = yield* Effect.forkChild(nightlyReport("ada", "monday", report))
    yield* Deferred.await(working)
    assert.strictEqual(Option.getOrThrow(yield* DistLock.holder(lockName)).description, "ada")

    yield* deleteLockKey
    yield* TestClock.adjust("1 second")
    const error = yield* Effect.flip(Fiber.join(fiber))
    assert.strictEqual(error._tag, "LockLost")
    assert.isTrue(Option.isNone(yield* Kv.get("reports/monday")))
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.effect("the fence rejects the write of an instance that cannot be interrupted in time", () =>
  Effect.gen(function*() {
    // The work and the write that follows it are one uninterruptible region. The lock is lost in the middle.
    const error = yield* Effect.flip(
      Effect.gen(function*() {
        const kv = yield* Kv.Kv
        yield* deleteLockKey
        yield* kv.put("reports/monday", "stale")
      }).pipe(Effect.uninterruptible, DistLock.withDistLock(lockName))
    )
    assert.strictEqual(error._tag, "LockLost")
    assert.isTrue(Option.isNone(yield* Kv.get("reports/monday")))
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.effect("an instance that cannot acquire the lock within a minute fails with LockTimeout", () =>
  Effect.gen(function*() {
    yield* DistLock.acquire(lockName)
    const fiber = yield* Effect.forkChild(nightlyReport("bert", "monday", Effect.succeed("")))
    while ((yield* DistLock.waiters(lockName)).length === 0) yield* Effect.yieldNow
    yield* TestClock.adjust("1 minute")
    assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "LockTimeout")
    assert.deepStrictEqual(yield* DistLock.waiters(lockName), [])
  }).pipe(Effect.provide(MemoryLayer.layer)))
