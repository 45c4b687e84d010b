/**
 * Tests of locks and sessions that the published suite cannot run on every store: clocks that jump, event loops that
 * stall, and the content of spans.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as LockError from "@effect-kv/core/LockError"
import * as Session from "@effect-kv/core/Session"
import * as Tracing from "@effect-kv/core/Tracing"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

/** A store and a client of it. */
const open = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const backend = yield* store.connect
  return { store, backend, kv: yield* Kv.make(backend) }
})

/** The test clock, with a wall clock that can be set independently of the monotonic clock. */
const jumpingClock = Effect.map(Clock.Clock, (clock) => {
  const wall = { offset: 0 }
  const jumping: Clock.Clock = {
    currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + wall.offset,
    currentTimeMillis: Effect.sync(() => clock.currentTimeMillisUnsafe() + wall.offset),
    currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe() + BigInt(wall.offset) * 1_000_000n,
    currentTimeNanos: Effect.sync(() => clock.currentTimeNanosUnsafe() + BigInt(wall.offset) * 1_000_000n),
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: clock.monotonicTimeNanos,
    sleep: (duration) => clock.sleep(duration)
  }
  return { wall, jumping }
})

/** A session of 10 seconds on such a clock. */
const sessionOnAJumpingClock = Effect.gen(function*() {
  const { backend } = yield* open
  const { jumping, wall } = yield* jumpingClock
  /** Runs after a renewal was executed, before its response arrives. */
  const renewal: { beforeResponse: Effect.Effect<void, KvError.KvError> } = { beforeResponse: Effect.void }
  const renewing: KvBackend = {
    ...backend,
    leaseKeepAlive: (id) => Effect.tap(backend.leaseKeepAlive(id), () => renewal.beforeResponse)
  }
  const kv = yield* Effect.provideService(Kv.make(renewing), Clock.Clock, jumping)
  const session = yield* on(kv)(Session.make({ ttl: "10 seconds" }))
  return { session, wall, renewal }
})

describe("clocks", () => {
  it.effect("a wall clock that jumps to the end of the lease ends the session: isAlive is false at once, lost fails soon after", () =>
    Effect.gen(function*() {
      const { session, wall } = yield* sessionOnAJumpingClock
      const lost = yield* Effect.forkChild(Effect.flip(session.lost))
      wall.offset = 8_000
      assert.isTrue(yield* session.isAlive)
      wall.offset = 9_001
      assert.isFalse(yield* session.isAlive)
      yield* TestClock.adjust("500 millis")
      assert.match((yield* Fiber.join(lost)).reason, /could not be renewed in time/)
    }))

  it.effect("a session survives a wall clock that jumps ahead a little or is set back", () =>
    Effect.gen(function*() {
      const { session, wall } = yield* sessionOnAJumpingClock
      wall.offset = 5_000
      yield* TestClock.adjust("3500 millis")
      wall.offset = 10_000
      yield* TestClock.adjust("30 seconds")
      assert.isTrue(yield* session.isAlive)
      wall.offset = -3_600_000
      yield* TestClock.adjust("30 seconds")
      assert.isTrue(yield* session.isAlive)
    }))

  it.effect("a wall clock that was set back does not prolong a session: the monotonic clock ends it", () =>
    Effect.gen(function*() {
      const { renewal, session, wall } = yield* sessionOnAJumpingClock
      renewal.beforeResponse = KvError.fail(new KvError.Unavailable({ message: "out of reach" }))
      wall.offset = -3_600_000
      yield* TestClock.adjust("8900 millis")
      assert.isTrue(yield* session.isAlive)
      yield* TestClock.adjust("100 millis")
      assert.isFalse(yield* session.isAlive)
    }))

  it.effect("a response to a renewal after the deadline does not revive the session, even if its end was not noticed yet", () =>
    Effect.gen(function*() {
      const { renewal, session, wall } = yield* sessionOnAJumpingClock
      renewal.beforeResponse = Effect.sync(() => {
        wall.offset = 7_000 // the renewal was sent at 3.3 seconds, so it would be valid until 12.3
      })
      yield* TestClock.adjust("3400 millis")
      assert.isAbove(wall.offset, 0)
      assert.isFalse(yield* session.isAlive)
    }))

  it.effect("a holder whose clock says that the lease has ended sends no fenced write, even if the store would accept it", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const { jumping, wall } = yield* jumpingClock
      const kv = yield* Effect.provideService(Kv.make(backend), Clock.Clock, jumping)
      const lock = yield* on(kv)(DistLock.acquire("l", { ttl: "10 seconds" }))
      const fenced = DistLock.fence(kv, lock)
      yield* fenced.put("k", "1")
      wall.offset = 10_001
      assert.strictEqual((yield* Effect.flip(fenced.put("k", "2"))).reason._tag, "LockLost")
      assert.deepStrictEqual(yield* kv.get("k"), Option.some("1"))
      assert.isTrue(Option.isSome(yield* kv.get(lock.key)), "the store would have accepted the write")
      assert.strictEqual((yield* Effect.flip(lock.lost)).token, lock.token)
      const next = yield* on(kv)(DistLock.acquire("another", { ttl: "10 seconds" }))
      assert.isTrue(yield* next.isHeld, "the next lock gets another session")
    }))

  it.effect("a waiter whose clock says that its lease has ended does not acquire the lock", () =>
    Effect.gen(function*() {
      const { backend, kv } = yield* open
      const { jumping, wall } = yield* jumpingClock
      const waiting = yield* Effect.provideService(Kv.make(backend), Clock.Clock, jumping)
      const scope = yield* Scope.make()
      yield* Scope.provide(on(kv)(DistLock.acquire("l")), scope)
      let hasRun = false
      const body = Effect.sync(() => hasRun = true)
      const waiter = yield* Effect.forkChild(Effect.flip(on(waiting)(DistLock.withDistLock(body, "l"))))
      yield* TestClock.adjust("1 second")
      wall.offset = 10_001
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(waiter))._tag, "LockLost")
      assert.isFalse(hasRun)
      assert.strictEqual(yield* kv.count(KeyRange.all), 0)
    }))

  it.effect("a body that succeeds after the lease has ended by its own clock fails with LockLost", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const { jumping, wall } = yield* jumpingClock
      const kv = yield* Effect.provideService(Kv.make(backend), Clock.Clock, jumping)
      const body = Effect.sync(() => wall.offset = 10_001)
      const error = yield* Effect.flip(on(kv)(DistLock.withDistLock(body, "l")))
      assert.strictEqual(error._tag, "LockLost")
    }))

  it.effect("a session ends a tenth of its TTL before the lease can, whatever fraction of a millisecond it began at", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      let nanos = 0n
      const millis = () => Number(nanos) / 1_000_000
      const still: Clock.Clock = {
        currentTimeMillisUnsafe: millis,
        currentTimeMillis: Effect.sync(millis),
        currentTimeNanosUnsafe: () => nanos,
        currentTimeNanos: Effect.sync(() => nanos),
        monotonicTimeNanosUnsafe: () => nanos,
        monotonicTimeNanos: Effect.sync(() => nanos),
        sleep: () => Effect.never
      }
      const kv = yield* Effect.provideService(Kv.make(backend), Clock.Clock, still)
      for (let began = 1n; began < 2_000_000_000n; began += 7_333_333n) {
        nanos = began
        const session = yield* on(kv)(Session.make({ ttl: "2 seconds" }))
        // The session's fiber must read the clock before the clock moves, or it would find that a renewal is due.
        yield* Effect.repeat(Effect.yieldNow, { times: 5 })
        nanos = began + 1_799_000_000n
        assert.isTrue(yield* session.isAlive)
        nanos = began + 1_800_000_000n
        assert.isFalse(yield* session.isAlive, `begun at ${began} ns`)
      }
    }))

  it.live("a holder whose event loop stalled beyond its time to live has its next fenced write rejected and is interrupted", () =>
    Effect.gen(function*() {
      const { kv, store } = yield* open
      let rejection: KvError.Reason | undefined
      const exit = yield* Effect.gen(function*() {
        const fenced = yield* Kv.Kv
        yield* Effect.sync(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2100))
        yield* Effect.catch(fenced.put("k", "stale"), (error) => {
          rejection = error.reason
          return Effect.never
        })
      }).pipe(DistLock.withDistLock("l", { ttl: "2 seconds" }), on(kv), Effect.exit)
      assert.strictEqual(rejection?._tag, "LockLost")
      assert.isTrue(Exit.isFailure(exit))
      const [reason] = Exit.isFailure(exit) ? exit.cause.reasons : []
      assert.isTrue(reason?._tag === "Fail" && reason.error instanceof LockError.LockLost)
      const other = yield* Effect.flatMap(store.connect, Kv.make)
      assert.strictEqual(yield* other.count(KeyRange.all), 0)
    }))
})

describe("a lock", () => {
  it.effect("leaves nothing in the store a second after the last release", () =>
    Effect.gen(function*() {
      const { kv, store } = yield* open
      const locked = on(kv)(DistLock.withDistLock(Effect.yieldNow, "l"))
      yield* Effect.all([locked, locked, locked], { concurrency: "unbounded" })
      yield* TestClock.adjust("1 second")
      const { keys, leases, watches } = yield* store.statistics
      assert.deepStrictEqual({ keys, leases, watches }, { keys: 0, leases: 0, watches: 0 })
    }))

  it.effect("does not pass the context of its caller on to the session that others share", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const deadlines: Array<Duration.Duration | undefined> = []
      const spans: Array<Option.Option<Tracer.AnySpan>> = []
      const recording: KvBackend = {
        ...backend,
        leaseKeepAlive: (id) =>
          Effect.gen(function*() {
            deadlines.push(yield* Deadline.Deadline)
            spans.push(yield* Effect.option(Effect.currentParentSpan))
            return yield* backend.leaseKeepAlive(id)
          })
      }
      const kv = yield* Kv.make(recording)
      yield* on(kv)(DistLock.acquire("l", { ttl: "3 seconds" })).pipe(
        Deadline.within("1 hour"),
        Effect.withSpan("of-the-caller")
      )
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(deadlines.map((deadline) => deadline && Duration.toSeconds(deadline)), [1])
      assert.isTrue(Option.isNone(spans[0]!))
    }))
})

describe("errors and spans of locks", () => {
  it.effect("never contain the value of a key", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span(options) {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const kv = yield* Kv.make(Tracing.traced({})(backend))
      const exit = yield* Effect.gen(function*() {
        const fenced = yield* Kv.Kv
        yield* fenced.put("k", "secret")
        yield* kv.deleteRange(KeyRange.prefix("l/"))
        yield* fenced.put("k", "secret")
      }).pipe(
        DistLock.withDistLock("l", { description: "not for spans" }),
        on(kv),
        Effect.exit,
        Effect.provideService(Tracer.Tracer, tracer)
      )
      assert.isAbove(spans.length, 3)
      const printed = JSON.stringify(
        [String(exit), spans.map((span) => [span.name, [...span.attributes], String(span.status)])],
        (_, value) => typeof value === "bigint" ? `${value}` : value
      )
      assert.match(printed, /was lost/)
      assert.notMatch(printed, /secret|not for spans/)
    }))

  it("say in their message which lock it was, how long it took, and why it was lost", () => {
    assert.strictEqual(
      new LockError.LockLost({ lock: "l", token: 7n, reason: "its key was deleted" }).message,
      "the lock \"l\" (token 7) was lost: its key was deleted"
    )
    const timeout = {
      lock: "a, b",
      token: Option.none(),
      waitedMillis: 1500,
      storeFailure: Option.none(),
      blockedBy: Option.none()
    }
    assert.strictEqual(
      new LockError.LockTimeout(timeout).message,
      "the lock \"a, b\" could not be acquired within 1s 500ms"
    )
    const unreachable = Option.some(new KvError.Unavailable({ message: "no endpoint responded" }))
    assert.strictEqual(
      new LockError.LockTimeout({ ...timeout, storeFailure: unreachable, blockedBy: Option.some("a/1") }).message,
      "the lock \"a, b\" could not be acquired within 1s 500ms; the store could not be reached: no endpoint responded"
    )
    assert.strictEqual(
      new LockError.LockTimeout({ ...timeout, blockedBy: Option.some("a/1") }).message,
      "the lock \"a, b\" could not be acquired within 1s 500ms; the key \"a/1\" has no lease and blocks the lock " +
        "until it is deleted"
    )
    assert.strictEqual(
      new LockError.LockHoldExceeded({ lock: "l", token: 7n, maxHoldMillis: 1000 }).message,
      "the lock \"l\" (token 7) was held for longer than 1s"
    )
  })
})
