/**
 * Sessions: leases that are renewed, and whose loss is noticed in time.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Session from "@effect-kv/core/Session"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Array from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { chapter, promptly, reasonOf, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { hold, on, signalling, soon } from "./locking.ts"
import { leaseIsGone } from "./sessionChecks.ts"

/** A session whose calls go through faults, until it is closed. */
const sessionWith = Effect.fnUntraced(function*(kv: Kv.Kv, seen: faults.Faults, ttl: Duration.Input) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const session = yield* promptly(
    "the session",
    Scope.provide(on(Kv.mapBackend(kv, faults.wrap(seen)))(Session.make({ ttl })), scope)
  )
  return { session, close: Scope.close(scope, Exit.void) }
})

export const cases = chapter("sessions", [
  test("a session is a lease, revoked with its keys when the scope closes", function*(kv) {
    const { close, session } = yield* sessionWith(kv, faults.make(), "30 seconds")
    yield* kv.put("k", "v", { lease: session.lease })
    assert.isTrue(yield* session.isAlive)
    assert.strictEqual(Duration.toSeconds(session.ttl), 30)
    yield* close
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
    assert.strictEqual((yield* reasonOf(backendOf(kv).leaseTimeToLive(session.lease)))._tag, "LeaseNotFound")
    assert.isFalse(yield* session.isAlive)
    const error = yield* promptly("the end of the session", Effect.flip(session.lost))
    assert.deepStrictEqual(
      [error._tag, error.lease, error.isRetryable, error.outcome],
      ["SessionLost", session.lease, false, "Unknown"]
    )
    assert.include(error.message, session.lease.toString(16))
  }),

  waitingTest(
    "a session renews its lease at every third of the granted time, and outlives it many times",
    function*(kv) {
      const store = yield* Store
      const seen = faults.make()
      const { close, session } = yield* sessionWith(kv, seen, "3 seconds")
      const renewedAt: Array<number> = []
      seen.before = (call) =>
        call.kind === "leaseKeepAlive"
          ? Effect.map(Clock.currentTimeMillis, (now) => void renewedAt.push(now))
          : Effect.void
      yield* kv.put("session/renewed", "v", { lease: session.lease })
      yield* store.passTime("7500 millis")
      assert.isTrue(yield* session.isAlive)
      assert.strictEqual((yield* entryOf(kv, "session/renewed")).lossyText, "v")
      const pauses = renewedAt.slice(1).map((at, i) => at - renewedAt[i]!).toSorted((a, b) => a - b)
      assert.isAtLeast(pauses.length, 3)
      // A busy machine delays some renewals, so how many there are in a time says nothing.
      const median = pauses[Math.floor(pauses.length / 2)]!
      assert.isAtLeast(median, 900)
      assert.isAtMost(median, 1400)
      yield* close
    }
  ),

  test("a session uses the granted time to live, which may be longer than the requested one", function*(kv) {
    const seen = faults.make()
    const { close, session } = yield* sessionWith(kv, seen, "1 second")
    assert.strictEqual(Duration.toSeconds(session.ttl), 2)
    yield* close
  }),

  waitingTest("a session whose lease is revoked is lost, at once if it is verified", function*(kv) {
    const { close, session } = yield* sessionWith(kv, faults.make(), "1 hour")
    yield* backendOf(kv).leaseRevoke(session.lease)
    assert.isTrue(yield* session.isAlive, "the session cannot know of the revocation yet")
    yield* session.verify
    yield* promptly("the loss", Effect.flip(session.lost))
    assert.isFalse(yield* session.isAlive)
    yield* close
  }),

  waitingTest("a session whose renewals get no response is lost by the client's clock", function*(kv) {
    const store = yield* Store
    const seen = faults.make()
    seen.before = (call) => call.kind === "leaseKeepAlive" ? Effect.never : Effect.void
    const { close, session } = yield* sessionWith(kv, seen, "2 seconds")
    yield* store.passTime("1500 millis")
    assert.isTrue(yield* session.isAlive)
    yield* store.passTime("600 millis")
    assert.isFalse(yield* session.isAlive)
    yield* promptly("the loss", Effect.flip(session.lost))
    yield* close
  }),

  waitingTest("a renewal whose response arrives after the lease has expired does not save the session", function*(kv) {
    const store = yield* Store
    const seen = faults.make()
    const barrier = yield* faults.barrier
    seen.after = (call) => call.kind === "leaseKeepAlive" ? barrier.stop : Effect.void
    const { close, session } = yield* sessionWith(kv, seen, "2 seconds")
    yield* store.passTime("2100 millis")
    yield* barrier.letGo
    yield* promptly("the loss", Effect.flip(session.lost))
    yield* store.passTime("1 second")
    assert.isFalse(yield* session.isAlive)
    yield* close
  }),

  ...Object.entries({
    crash: Effect.die(new Error("a bug of the backend")),
    "hang uninterruptibly": Effect.uninterruptible(Effect.never),
    "are interrupted": Effect.interrupt
  }).map(([what, renewal]) =>
    waitingTest(
      `a session whose renewals ${what} is lost by its own clock, and the next lock has another`,
      function*(kv) {
        const store = yield* Store
        const seen = faults.make()
        const scope = yield* Scope.make()
        const client = yield* Scope.provide(Kv.make(faults.wrap(seen)(backendOf(kv))), scope)
        seen.before = (call) => call.kind === "leaseKeepAlive" ? renewal : Effect.void
        const name = `session/bug/${what}`
        const { body, started } = signalling(Effect.never)
        const held = yield* Effect.forkScoped(on(client)(DistLock.withDistLock(body, name, { ttl: "2 seconds" })))
        yield* started
        yield* store.passTime("2100 millis")
        yield* promptly("the loss", Fiber.await(held))
        const next = yield* hold(client, `${name}/next`, { ttl: "2 seconds" })
        assert.isTrue(yield* next.lock.isHeld)
        yield* promptly("the release", next.release)
        yield* promptly("the end of the client", Scope.close(scope, Exit.void))
      }
    )
  ),

  waitingTest(
    "a grant without a response is retried under another id, and the first lease is revoked",
    function*(kv) {
      const seen = faults.make()
      const client = yield* faults.newClientWith(seen)
      seen.after = (call) => call.kind === "leaseGrant" && call.lease === seen.leases[0] ? Effect.never : Effect.void
      const holding = yield* Effect.forkScoped(on(client)(DistLock.acquire("session/hedged", { ttl: "1 hour" })))
      yield* waitUntil("the lock is held", Effect.sync(() => holding.pollUnsafe() !== undefined), 12)
      assert.isTrue(Exit.isSuccess(holding.pollUnsafe()!))
      assert.strictEqual(seen.leases.length, 2)
      yield* soon("the first is revoked", leaseIsGone(kv, seen.leases[0]!))
      assert.isFalse(yield* leaseIsGone(kv, seen.leases[1]!))
    }
  ),

  waitingTest(
    "a lease whose grant reaches the store after its revocation is revoked again",
    function*(kv) {
      const seen = faults.make()
      const client = yield* faults.newClientWith(seen)
      const barrier = yield* faults.barrier
      seen.before = (call) => call.kind === "leaseGrant" && call.lease === seen.leases[0] ? barrier.stop : Effect.void
      const holding = yield* Effect.forkScoped(on(client)(DistLock.acquire("session/overtaken", { ttl: "1 hour" })))
      yield* waitUntil("it holds", Effect.sync(() => holding.pollUnsafe() !== undefined), 12)
      const revocations = () =>
        seen.calls.filter((call) => call.kind === "leaseRevoke" && call.lease === seen.leases[0])
      yield* soon("the first is revoked", Effect.sync(() => revocations().length === 1 && seen.pending === 1))
      yield* barrier.letGo
      yield* soon("the grant has ended", Effect.sync(() => seen.pending === 0))
      yield* soon("it is revoked again", Effect.sync(() => revocations().length === 2))
      yield* soon("the lease is gone", leaseIsGone(kv, seen.leases[0]!))
      assert.isFalse(yield* leaseIsGone(kv, seen.leases[1]!))
    }
  ),

  waitingTest(
    "a lease whose grant is executed before the response to its revocation arrives is revoked again",
    function*(kv) {
      const seen = faults.make()
      const grant = yield* faults.barrier
      const response = yield* faults.barrier
      const backend = backendOf(yield* faults.newClientWith(seen))
      let responses = 0
      const client = yield* Kv.make({
        ...backend,
        leaseRevoke: (id) =>
          Effect.onExit(
            backend.leaseRevoke(id),
            () => id === seen.leases[0] && ++responses === 1 ? response.stop : Effect.void
          )
      })
      seen.before = (call) => call.kind === "leaseGrant" && call.lease === seen.leases[0] ? grant.stop : Effect.void
      yield* Effect.forkScoped(on(client)(DistLock.acquire("session/faster", { ttl: "1 hour" })))
      yield* waitUntil("the first lease is revoked", Effect.sync(() => responses === 1), 12)
      yield* grant.letGo
      yield* soon("the grant has ended", Effect.sync(() => seen.pending === 0))
      yield* response.letGo
      yield* soon("it is revoked again", Effect.sync(() => responses === 2))
      yield* soon("the lease is gone", leaseIsGone(kv, seen.leases[0]!))
    }
  ),

  waitingTest(
    "a caller waits for a shared session no longer than its own deadline; callers with more time get it",
    function*(kv) {
      const store = yield* Store
      const seen = faults.make()
      const client = yield* faults.newClientWith(seen)
      const barrier = yield* faults.barrier
      seen.before = (call) => call.kind === "leaseGrant" ? barrier.stop : Effect.void
      const name = "session/deadline"
      const attempts = [
        on(client)(DistLock.withDistLock(Effect.void, `${name}/a`)),
        on(client)(Effect.scoped(DistLock.tryAcquire(`${name}/b`))),
        Effect.scoped(on(client)(TempKey.make(`${name}/c`)))
      ]
      const patient = yield* Effect.forkScoped(on(client)(DistLock.acquire(`${name}/patient`)))
      yield* barrier.reached
      const fibers = yield* Effect.forEach(
        attempts,
        (attempt) =>
          Effect.forkScoped(Effect.flip(Deadline.within(attempt as Effect.Effect<unknown, unknown>, "1 second")))
      )
      yield* store.passTime("1100 millis")
      for (const fiber of fibers) {
        yield* soon("the attempt ends", Effect.sync(() => fiber.pollUnsafe() !== undefined))
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(KvError.isKvError(error) && error.reason._tag, "Unavailable")
      }
      yield* barrier.letGo
      yield* promptly("the caller with more time", Fiber.join(patient))
      assert.strictEqual(yield* kv.count(KeyRange.prefix(`${name}/`)), 1)
    }
  ),

  waitingTest("closing a scope waits for a silent store for one second in total, whatever it releases", function*(kv) {
    const store = yield* Store
    const seen = faults.make()
    const closing = yield* Scope.make()
    const client = yield* Scope.provide(Kv.make(faults.wrap(seen)(backendOf(kv))), closing)
    const scope = yield* Scope.make()
    const name = "session/patience"
    const held = Effect.gen(function*() {
      for (let i = 0; i < 5; i++) yield* DistLock.acquire(`${name}/l${i}`)
      yield* DistLock.acquire(Array.make(`${name}/m1`, `${name}/m2`, `${name}/m3`))
      for (let i = 0; i < 10; i++) yield* on(client)(TempKey.make(`${name}/t${i}`))
    })
    yield* Scope.provide(on(client)(held), scope)
    seen.before = () => Effect.never
    const ending = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
    yield* store.passTime("1200 millis")
    yield* soon("the scope has closed", Effect.sync(() => ending.pollUnsafe() !== undefined))
    const ended = yield* Effect.forkScoped(Scope.close(closing, Exit.void))
    yield* store.passTime("400 millis")
    yield* soon("the client has closed", Effect.sync(() => ended.pollUnsafe() !== undefined))
    yield* backendOf(kv).leaseRevoke(seen.leases[0]!)
  }),

  waitingTest("a lease whose grant got no response is revoked", function*(kv) {
    const seen = faults.make()
    seen.after = (call) => call.kind === "leaseGrant" ? faults.lostResponse : Effect.void
    const exit = yield* Effect.exit(
      Effect.scoped(on(Kv.mapBackend(kv, faults.wrap(seen)))(Session.make({ ttl: "1 hour" })))
    )
    assert.isTrue(Exit.isFailure(exit))
    assert.strictEqual(seen.leases.length, 1)
    assert.isTrue(yield* leaseIsGone(kv, seen.leases[0]!))
  }),

  waitingTest(
    "a closing client ends its sessions at once and does not wait for an unreachable store",
    function*(kv) {
      const store = yield* Store
      const seen = faults.make()
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(Kv.make(faults.wrap(seen)(backendOf(kv))), scope)
      for (const ttl of ["10 seconds", "20 seconds", "30 seconds"] as const) {
        const { body, started } = signalling(Effect.never)
        yield* Effect.forkScoped(on(client)(DistLock.withDistLock(body, `session/closing/${ttl}`, { ttl })))
        yield* started
      }
      const last = seen.leases.at(-1)!
      seen.before = (call) => call.kind === "leaseRevoke" && call.lease === last ? Effect.never : Effect.void
      const closing = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
      for (const lease of seen.leases.slice(0, -1)) yield* soon("the lease is revoked", leaseIsGone(kv, lease))
      yield* store.passTime("3500 millis")
      yield* soon("it has closed", Effect.sync(() => closing.pollUnsafe() !== undefined))
      assert.isFalse(yield* leaseIsGone(kv, last))
      yield* backendOf(kv).leaseRevoke(last)
    }
  )
])
