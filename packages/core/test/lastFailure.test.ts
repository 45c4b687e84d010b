/**
 * Callers that give up before the deadline of their calls: their errors say why the store did not respond, by what the
 * backend knows of the calls that were in flight.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as KvHealth from "@effect-kv/core/KvHealth"
import * as LastFailure from "@effect-kv/core/LastFailure"
import type * as LockError from "@effect-kv/core/LockError"
import * as SendControl from "@effect-kv/core/SendControl"
import * as Slot from "@effect-kv/core/Slot"
import * as Watch from "@effect-kv/core/Watch"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"

const refused: KvError.Reason = new KvError.Unavailable({ message: "connection refused" })
const noLeader: KvError.Reason = new KvError.Unavailable({ message: "no leader" })

/** A call of which its backend knows nothing. */
const unknown: LastFailure.Call = { lastFailure: undefined }

/** A link to a store: while it is down, calls wait, and their backend knows this reason. */
interface Link {
  readonly isUp: Latch.Latch
  reason: KvError.Reason | undefined
}

const overLink = (link: Link) => (backend: KvBackend): KvBackend => {
  const through = <A, R>(call: Effect.Effect<A, KvError.KvError, R>): Effect.Effect<A, KvError.KvError, R> =>
    LastFailure.during(Effect.andThen(link.isUp.await, call), {
      get lastFailure() {
        return link.reason
      }
    })
  return {
    execute: (op) => through(backend.execute(op)),
    watch: (request) => through(backend.watch(request)),
    leaseGrant: (options) => through(backend.leaseGrant(options)),
    leaseKeepAlive: (id) => through(backend.leaseKeepAlive(id)),
    leaseRevoke: (id) => through(backend.leaseRevoke(id)),
    leaseTimeToLive: (id, options) => through(backend.leaseTimeToLive(id, options))
  }
}

/** A client behind a link, which is up, and another client of the same store. */
const open = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const link: Link = { isUp: Latch.makeUnsafe(true), reason: undefined }
  const kv = yield* Kv.make(overLink(link)(yield* store.connect))
  const other = yield* Kv.make(yield* store.connect)
  yield* Effect.addFinalizer(() => link.isUp.open)
  return { kv, link, other }
})

const down = ({ isUp }: Link) => Effect.sync(() => isUp.closeUnsafe())

/** The failure of the effect, after so much time, and what it takes to leave nothing behind. */
const failureAfter = Effect.fnUntraced(function*<A, E>(
  kv: Kv.Kv,
  duration: string,
  effect: Effect.Effect<A, E, Kv.Kv>
) {
  const fiber = yield* Effect.forkChild(Effect.flip(Effect.provideService(effect, Kv.Kv, kv)), {
    startImmediately: true
  })
  yield* TestClock.adjust(duration as "1 second")
  for (let i = 0; i < 20 && fiber.pollUnsafe() === undefined; i++) yield* TestClock.adjust("100 millis")
  assert.isDefined(fiber.pollUnsafe(), "the effect has ended")
  return yield* Fiber.join(fiber)
})

const withLock = (acquireTimeout?: "1 second") =>
  acquireTimeout === undefined
    ? DistLock.withDistLock(Effect.void, "l")
    : DistLock.withDistLock(Effect.void, "l", { acquireTimeout })

describe("a caller that gives up", () => {
  it.effect("names in LockTimeout why the store did not respond, at first and after it had responded", () =>
    Effect.gen(function*() {
      const { kv, link } = yield* open
      yield* down(link)
      link.reason = refused
      const first = yield* failureAfter(kv, "1 second", withLock("1 second"))
      assert.strictEqual(
        first.message,
        "the lock \"l\" could not be acquired within 1s; the store could not be reached: connection refused"
      )
      assert.deepStrictEqual((first as LockError.LockTimeout).storeFailure, Option.some(refused))
      yield* link.isUp.open
      link.reason = undefined
      yield* Effect.provideService(withLock(), Kv.Kv, kv)
      // The session is there, so it is the request to enter the queue that has no response.
      yield* down(link)
      link.reason = noLeader
      const second = yield* failureAfter(kv, "1 second", withLock("1 second"))
      assert.deepStrictEqual((second as LockError.LockTimeout).storeFailure, Option.some(noLeader))
    }))

  it.effect("names no failure if the backend knows none, and none that has passed", () =>
    Effect.gen(function*() {
      const { kv, link, other } = yield* open
      yield* down(link)
      const silent = yield* failureAfter(kv, "1 second", withLock("1 second"))
      assert.include(silent.message, "the store did not respond in time")
      link.reason = refused
      const held = yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.provideService(DistLock.acquire("l"), Kv.Kv, other)
        const waiter = yield* Effect.forkChild(
          Effect.flip(Effect.provideService(withLock("1 second"), Kv.Kv, kv)),
          { startImmediately: true }
        )
        yield* TestClock.adjust("300 millis")
        link.reason = undefined
        yield* link.isUp.open
        yield* TestClock.adjust("1 second")
        return yield* Fiber.join(waiter)
      }))
      assert.deepStrictEqual((held as LockError.LockTimeout).storeFailure, Option.none(), held.message)
    }))

  it.effect("names why no lease was granted, even if another caller started the grant", () =>
    Effect.gen(function*() {
      const { kv, link } = yield* open
      yield* down(link)
      link.reason = refused
      yield* Effect.forkChild(Effect.provideService(withLock(), Kv.Kv, kv), { startImmediately: true })
      yield* TestClock.adjust("200 millis")
      const second = yield* failureAfter(kv, "700 millis", Deadline.within(withLock(), "700 millis"))
      assert.strictEqual(second.message, "Unavailable: no lease was granted within 700ms: connection refused")
      const third = yield* failureAfter(kv, "1 second", withLock("1 second"))
      assert.deepStrictEqual((third as LockError.LockTimeout).storeFailure, Option.some(refused))
    }))

  it.effect("names in LockLost why the lease could not be renewed, for the holder and for its fenced writes", () =>
    Effect.gen(function*() {
      const { kv, link } = yield* open
      const held = Effect.gen(function*() {
        yield* down(link)
        link.reason = refused
        return yield* Effect.never
      })
      const lost = yield* failureAfter(kv, "1 minute", DistLock.withDistLock(held, "l"))
      assert.strictEqual(
        (lost as LockError.LockLost).reason,
        "its lease could not be renewed in time: connection refused"
      )
      yield* link.isUp.open
      link.reason = undefined
      const write = Effect.scoped(Effect.gen(function*() {
        const lock = yield* DistLock.acquire("m")
        yield* down(link)
        link.reason = noLeader
        yield* TestClock.adjust("1 minute")
        return yield* DistLock.fenced(Kv.put("k", "v"), lock)
      }))
      const rejected = yield* Effect.flip(Effect.provideService(write, Kv.Kv, kv))
      assert.include(rejected.message, "its lease could not be renewed in time: no leader")
      yield* link.isUp.open
    }))

  it.effect("names no outage that passed while it waited for permits or for a lock", () =>
    Effect.gen(function*() {
      const { other } = yield* open
      const store = { isDown: false }
      const kv = Kv.mapBackend(other, (backend): KvBackend => ({
        ...backend,
        watch: (request) => Effect.suspend(() => store.isDown ? KvError.fail(refused) : backend.watch(request))
      }))
      const permits = (one: Kv.Kv) => Effect.provideService(DistSemaphore.make("s", { permits: 1 }), Kv.Kv, one)
      const holding = yield* permits(other)
      const waiting = yield* permits(kv)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* holding.acquire(1)
        yield* Effect.provideService(DistLock.acquire("l"), Kv.Kv, other)
        for (
          const attempt of [
            Effect.asVoid(Effect.scoped(waiting.acquire(1, { acquireTimeout: "1 second" }))),
            withLock("1 second")
          ]
        ) {
          store.isDown = true
          const fiber = yield* Effect.forkChild(Effect.flip(Effect.provideService(attempt, Kv.Kv, kv)), {
            startImmediately: true
          })
          yield* TestClock.adjust("100 millis")
          store.isDown = false
          for (let i = 0; i < 20 && fiber.pollUnsafe() === undefined; i++) yield* TestClock.adjust("100 millis")
          const passed: LockError.LockTimeout = (yield* Fiber.join(fiber)) as LockError.LockTimeout
          assert.deepStrictEqual(passed.storeFailure, Option.none(), passed.message)
          store.isDown = true
          const present = yield* failureAfter(kv, "1 second", attempt)
          assert.deepStrictEqual((present as LockError.LockTimeout).storeFailure, Option.some(refused))
        }
        store.isDown = false
      }))
    }))

  it.effect("names why the watch that it waits on is interrupted", () =>
    Effect.gen(function*() {
      const { other } = yield* open
      let status: Watch.Status = { _tag: "Interrupted", message: "connection reset" }
      const kv = Kv.mapBackend(other, (backend): KvBackend => ({
        ...backend,
        watch: (request) =>
          Effect.map(backend.watch(request), (watcher) => ({
            ...watcher,
            status: Stream.suspend(() => Stream.concat(Stream.succeed(status), Stream.never))
          }))
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.provideService(DistLock.acquire("l"), Kv.Kv, other)
        const cut = yield* failureAfter(kv, "1 second", withLock("1 second"))
        assert.include(cut.message, "the store could not be reached: connection reset")
        status = Watch.live(1n)
        const live = yield* failureAfter(kv, "1 second", withLock("1 second"))
        assert.deepStrictEqual((live as LockError.LockTimeout).storeFailure, Option.none(), live.message)
      }))
    }))

  it.effect("names why the watch that it would wait on does not open, and no call that is merely in flight", () =>
    Effect.gen(function*() {
      const { other } = yield* open
      let last: KvError.Reason = new KvError.Unavailable({ message: "connection refused" })
      const kv = Kv.mapBackend(other, (backend): KvBackend => ({
        ...backend,
        watch: () => LastFailure.during(Effect.never, { lastFailure: last })
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.provideService(DistLock.acquire("l"), Kv.Kv, other)
        const refused = yield* failureAfter(kv, "1 second", withLock("1 second"))
        assert.include(refused.message, "the store could not be reached: connection refused")
        last = new KvError.DeadlineExceeded({ message: "no response yet" })
        const waiting = yield* failureAfter(kv, "1 second", withLock("1 second"))
        assert.deepStrictEqual((waiting as LockError.LockTimeout).storeFailure, Option.none(), waiting.message)
      }))
    }))

  it.effect("names in SlotsTaken why the store could not be reached, but not for slots that others hold", () =>
    Effect.gen(function*() {
      const { other } = yield* open
      const store = { isDown: false }
      const kv = Kv.mapBackend(other, (backend): KvBackend => ({
        ...backend,
        watch: (request) =>
          Effect.suspend(() =>
            LastFailure.during(store.isDown ? KvError.fail(refused) : backend.watch(request), unknown)
          )
      }))
      yield* Effect.scoped(Effect.gen(function*() {
        const on = Effect.provideService(Kv.Kv, other)
        yield* on(Slot.acquire("s", { size: 1 }))
        const attempt = Effect.scoped(Slot.acquire("s", { size: 1, acquireTimeout: "3 seconds" }))
        const taken = yield* failureAfter(kv, "3 seconds", attempt)
        assert.include(taken.message, "taken or cooling down")
        store.isDown = true
        const cut = yield* failureAfter(kv, "3 seconds", attempt)
        assert.strictEqual(
          cut.message,
          "the only slot of \"s\" could not be acquired in time; the store could not be reached: connection refused"
        )
      }))
    }))

  it.effect("names the last failure in a check of health, for a store that does not enforce its deadline", () =>
    Effect.gen(function*() {
      const { kv, link } = yield* open
      yield* down(link)
      link.reason = refused
      const unhealthy = yield* failureAfter(kv, "1200 millis", KvHealth.check({ deadline: "1 second" }))
      assert.deepStrictEqual((unhealthy as KvHealth.Unhealthy).problems, [
        { problem: "Unreachable", message: "connection refused" }
      ])
    }))
})

describe("batches", () => {
  /** A backend that is asked for batches: the first call goes alone, later ones are batched. */
  const batched = Effect.gen(function*() {
    const link: Link = { isUp: Latch.makeUnsafe(false), reason: refused }
    const backend = yield* Effect.flatMap(MemoryStore.make(), (store) => store.connect)
    const unsent: KvBackend = {
      ...overLink(link)(backend),
      execute: (op) =>
        Effect.withFiber((fiber) => {
          fiber.getRef(SendControl.Current)?.track(() => false)
          return overLink(link)(backend).execute(op)
        })
    }
    return { link, kv: yield* Kv.make(Batching.batched()(unsent)) }
  })

  it.effect("say why they could not be sent to each caller whose deadline passes", () =>
    Effect.gen(function*() {
      const { kv } = yield* batched
      const puts = Effect.forEach(
        ["a", "b", "c"],
        (key) => Effect.flip(Deadline.within(Kv.put(key, "1"), "700 millis")),
        { concurrency: "unbounded" }
      )
      // The first call has no deadline but the backend's own, of which there is none here.
      const first = yield* Effect.forkChild(Effect.provideService(Kv.put("first", "1"), Kv.Kv, kv), {
        startImmediately: true
      })
      const all = yield* Effect.forkChild(Effect.provideService(puts, Kv.Kv, kv), { startImmediately: true })
      yield* TestClock.adjust("700 millis")
      for (const error of yield* Fiber.join(all)) {
        assert.strictEqual(error.reason.message, "could not be sent within 700ms (connection refused)")
      }
      yield* Fiber.interrupt(first)
    }))

  it.effect("tell a caller that gives up what their request waits for", () =>
    Effect.gen(function*() {
      const { kv, link } = yield* batched
      const first = yield* Effect.forkChild(Effect.provideService(Kv.put("first", "1"), Kv.Kv, kv), {
        startImmediately: true
      })
      const puts = Effect.all([Kv.put("a", "1"), Kv.put("b", "1")], { concurrency: 2 })
      const limited = LastFailure.timeoutOrElse(puts, {
        duration: "1 second",
        orElse: (why) => Effect.fail(why)
      })
      assert.strictEqual(yield* failureAfter(kv, "1 second", limited), refused)
      link.reason = undefined
      yield* link.isUp.open
      yield* Fiber.join(first)
    }))
})

describe("a record of calls", () => {
  const failing = KvError.fail(refused)

  it.effect("has the failure of the oldest call in flight, otherwise that of the last to end", () =>
    Effect.gen(function*() {
      const record = new LastFailure.LastFailure()
      const call = (reason: KvError.Reason) =>
        Effect.forkChild(LastFailure.recorded(LastFailure.during(Effect.never, { lastFailure: reason }), record), {
          startImmediately: true
        })
      assert.isUndefined(record.lastFailure)
      yield* Effect.flip(LastFailure.recorded(LastFailure.during(failing, record), record))
      assert.strictEqual(record.lastFailure, refused)
      const first = yield* call(noLeader)
      const second = yield* call(refused)
      assert.strictEqual(record.lastFailure, noLeader)
      yield* Fiber.interrupt(first)
      assert.strictEqual(record.lastFailure, refused)
      assert.strictEqual(record.ended, refused)
      yield* Fiber.interrupt(second)
    }))

  it.effect("forgets a failure after a success, and after any other response of the store", () =>
    Effect.gen(function*() {
      const record = new LastFailure.LastFailure()
      const notFound = KvError.fail(new KvError.LeaseNotFound({ message: "gone" }))
      for (const response of [Effect.void, Effect.ignore(record.during(notFound, unknown))]) {
        yield* Effect.flip(record.during(failing, unknown))
        assert.strictEqual(record.lastFailure, refused)
        yield* record.during(response, unknown)
        assert.isUndefined(record.lastFailure)
      }
      yield* Effect.flip(record.during(failing, unknown))
      yield* Effect.flip(record.during(notFound, unknown))
      assert.isUndefined(record.lastFailure)
    }))

  it.effect("is seen through by the record around it", () =>
    Effect.gen(function*() {
      const outer = new LastFailure.LastFailure()
      const limited = LastFailure.timeoutOrElse(LastFailure.during(Effect.never, { lastFailure: refused }), {
        duration: "1 hour",
        orElse: () => Effect.void
      })
      const fiber = yield* Effect.forkChild(LastFailure.recorded(limited, outer), { startImmediately: true })
      assert.strictEqual(outer.lastFailure, refused)
      yield* Fiber.interrupt(fiber)
      assert.isUndefined(outer.lastFailure)
    }))
})
