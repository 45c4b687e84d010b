/**
 * Health checks in virtual time: stores that respond, reject, hang or have an alarm, and sessions that run out of time.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as KvHealth from "@effect-kv/core/KvHealth"
import * as Session from "@effect-kv/core/Session"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"

/** The problems of a store that responds so to reads, and has these alarms. */
const problemsOf = (
  read: Effect.Effect<never, KvError.KvError> | undefined,
  alarms?: Effect.Effect<ReadonlyArray<string>, KvError.KvError>
) =>
  Effect.gen(function*() {
    const backend = yield* Effect.flatMap(MemoryStore.make(), (store) => store.connect)
    const kv = yield* Kv.make(read === undefined ? backend : { ...backend, execute: () => read }, { alarms })
    return yield* Effect.flip(KvHealth.check()).pipe(Effect.provideService(Kv.Kv, kv))
  })

const rejected = (reason: KvError.Reason) => KvError.fail(reason)

const unavailable = rejected(new KvError.Unavailable({ message: "cut off" }))

describe("KvHealth", () => {
  it.effect("a store in memory is healthy", () =>
    Effect.gen(function*() {
      const { margin } = yield* KvHealth.check()
      assert.isTrue(Option.isNone(margin))
    }).pipe(Effect.provide(MemoryLayer.layer)))

  it.effect("a store that does not respond is unreachable, or has no quorum if a member reports its alarms", () =>
    Effect.gen(function*() {
      const alone = yield* problemsOf(unavailable)
      assert.deepStrictEqual(alone.problems, [{ problem: "Unreachable", message: "cut off" }])
      const both = yield* problemsOf(unavailable, unavailable)
      assert.deepStrictEqual(both.problems.map(({ problem }) => problem), ["Unreachable"])
      const member = yield* problemsOf(unavailable, Effect.succeed([]))
      assert.deepStrictEqual(member.problems.map(({ problem }) => problem), ["NoQuorum"])
    }))

  it.effect("every problem is named, also in the message", () =>
    Effect.gen(function*() {
      const reason = new KvError.Unauthenticated({ message: "wrong password" })
      const error = yield* problemsOf(rejected(reason), Effect.succeed(["NOSPACE", "CORRUPT"]))
      assert.deepStrictEqual(error.problems.map(({ problem }) => problem), ["Unauthenticated", "Alarm", "Alarm"])
      assert.strictEqual(
        error.message,
        "the store is not healthy: Unauthenticated (wrong password); Alarm (the alarm NOSPACE is active); " +
          "Alarm (the alarm CORRUPT is active)"
      )
    }))

  it.effect("a user that may not read the key is healthy, and another rejection is a problem", () =>
    Effect.gen(function*() {
      const denied = rejected(new KvError.PermissionDenied({ message: "no" }))
      const alarm = yield* problemsOf(denied, Effect.succeed(["NOSPACE"]))
      assert.deepStrictEqual(alarm.problems.map(({ problem }) => problem), ["Alarm"])
      const other = yield* problemsOf(rejected(new KvError.QuotaExceeded({ message: "full" })))
      assert.deepStrictEqual(other.problems.map(({ problem }) => problem), ["Failed"])
    }))

  it.effect("a backend that ignores the deadline does not delay the check for longer", () =>
    Effect.gen(function*() {
      const check = yield* Effect.forkChild(problemsOf(Effect.never, Effect.never), { startImmediately: true })
      yield* TestClock.adjust("2200 millis")
      const { problems } = yield* Fiber.join(check)
      assert.deepStrictEqual(problems.map(({ problem }) => problem), ["Unreachable"])
    }))

  it.effect("an option that makes no sense is a defect that says what would", () =>
    Effect.gen(function*() {
      const defectOf = (options: KvHealth.Options) =>
        Effect.map(Effect.exit(KvHealth.check(options)), (exit) => String(exit._tag === "Failure" && exit.cause))
      assert.include(yield* defectOf({ minMargin: 20 }), "minMargin must be a number from 0 to 1, not 20")
      assert.include(yield* defectOf({ deadline: 0 }), "the deadline of a health check must be a positive duration")
    }).pipe(Effect.provide(MemoryLayer.layer)))

  it.effect("a session that could not be renewed is a problem before it is lost", () =>
    Effect.gen(function*() {
      const backend = yield* Effect.flatMap(MemoryStore.make(), (store) => store.connect)
      const cut: KvBackend = { ...backend, leaseKeepAlive: () => unavailable }
      const kv = yield* Kv.make(cut)
      const check = KvHealth.check({ minMargin: 0.3 }).pipe(Effect.provideService(Kv.Kv, kv))
      const session = yield* Session.make({ ttl: "10 seconds" }).pipe(Effect.provideService(Kv.Kv, kv))
      assert.strictEqual(Option.getOrThrow((yield* check).margin), 0.9)
      yield* TestClock.adjust("7 seconds")
      assert.isTrue(yield* session.isAlive)
      const { message } = yield* Effect.flip(check)
      assert.include(message, "LowMargin (a session has 20 % of its time to live left, less than 30 %)")
    }))
})
