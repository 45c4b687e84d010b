/**
 * Leases end by the clock, to the millisecond, and leave no timer behind.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { execute, type KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

const open = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  return { store, backend: yield* store.connect }
})

const keysOf = (backend: KvBackend) =>
  Effect.map(execute(backend, Op.range(KeyRange.all)), ({ entries }) => entries.map((entry) => entry.key))

/** A clock that counts the sleeps that have begun and not ended. */
const countingClock = (clock: Clock.Clock) => {
  const counts = { sleeping: 0 }
  const counted: Clock.Clock = {
    currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
    currentTimeMillis: clock.currentTimeMillis,
    currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
    currentTimeNanos: clock.currentTimeNanos,
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: clock.monotonicTimeNanos,
    sleep: (duration) =>
      Effect.suspend(() => {
        counts.sleeping++
        return Effect.ensuring(clock.sleep(duration), Effect.sync(() => counts.sleeping--))
      })
  }
  return { counts, clock: counted }
}

describe("leases", () => {
  it.effect("end exactly when their time is over, their keys in one revision, in order", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open
      const lease = yield* backend.leaseGrant({ ttl: "5 seconds" })
      for (const key of ["b", "c", "a"]) yield* backend.execute(Op.put(key, "1", { lease: lease.id }))
      const watcher = yield* backend.watch({ range: KeyRange.all })
      yield* TestClock.adjust("4999 millis")
      assert.deepStrictEqual(yield* keysOf(backend), ["a", "b", "c"])
      assert.deepStrictEqual((yield* backend.leaseTimeToLive(lease.id)).remaining, Duration.seconds(0))
      yield* TestClock.adjust("1 millis")
      const [batch, ...rest] = yield* watcher.take
      assert.deepStrictEqual(batch!.events.map((event) => [event._tag, event.key]), [
        ["Delete", "a"],
        ["Delete", "b"],
        ["Delete", "c"]
      ])
      assert.strictEqual(rest.length, 0)
      assert.strictEqual(yield* store.revision, 5n)
    }))

  it.effect("wake a waiting watch while no client makes a call", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const lease = yield* backend.leaseGrant({ ttl: "2 seconds" })
      yield* backend.execute(Op.put("a", "1", { lease: lease.id }))
      const watcher = yield* backend.watch({ range: KeyRange.key("a") })
      const at = yield* Effect.forkChild(Effect.andThen(watcher.take, Clock.currentTimeMillis), {
        startImmediately: true
      })
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(at), 2_000)
    }))

  it.effect("end one after the other, in the order of their deadlines, each in a revision of its own", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const watcher = yield* backend.watch({ range: KeyRange.all, only: "Delete" })
      for (const ttl of [7, 3, 5]) {
        const lease = yield* backend.leaseGrant({ ttl: Duration.seconds(ttl) })
        yield* backend.execute(Op.put(`after ${ttl}`, "1", { lease: lease.id }))
      }
      yield* TestClock.adjust("1 hour")
      const batches = yield* watcher.take
      assert.deepStrictEqual(
        batches.map(({ events, revision }) => [revision, events.map((event) => event.key)]),
        [[5n, ["after 3"]], [6n, ["after 5"]], [7n, ["after 7"]]]
      )
    }))

  it.effect("start their time to live again when they are kept alive", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const lease = yield* backend.leaseGrant({ ttl: "3 seconds" })
      yield* backend.execute(Op.put("a", "1", { lease: lease.id }))
      for (let i = 0; i < 5; i++) {
        yield* TestClock.adjust("2999 millis")
        assert.deepStrictEqual(yield* backend.leaseKeepAlive(lease.id), lease)
      }
      assert.deepStrictEqual(yield* keysOf(backend), ["a"])
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* keysOf(backend), [])
    }))

  it.effect("that have ended are not seen alive by the next call, even if their timer has not fired yet", () =>
    Effect.gen(function*() {
      let nanos = 0n
      const { clock } = countingClock(yield* Clock.Clock)
      const backend = yield* Effect.provideService(
        Effect.flatMap(MemoryStore.make(), (store) => store.connect),
        Clock.Clock,
        { ...clock, monotonicTimeNanosUnsafe: () => nanos }
      )
      const lease = yield* backend.leaseGrant({ ttl: "2 seconds" })
      yield* backend.execute(Op.put("a", "1", { lease: lease.id }))
      nanos = 2_000_000_001n
      assert.isTrue(Exit.isFailure(yield* Effect.exit(backend.leaseKeepAlive(lease.id))))
      assert.deepStrictEqual(yield* keysOf(backend), [])
    }))

  it.effect("end after the fibers that sleep until the same instant, so that their owner knows first", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const lease = yield* backend.leaseGrant({ ttl: "3 seconds" })
      yield* backend.execute(Op.put("a", "1", { lease: lease.id }))
      yield* TestClock.adjust("1 seconds")
      const owner = yield* Effect.forkChild(Effect.andThen(Effect.sleep("2 seconds"), keysOf(backend)))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* Fiber.join(owner), ["a"])
      assert.deepStrictEqual(yield* keysOf(backend), [])
    }))

  it.effect("can last many hundred years", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const lease = yield* backend.leaseGrant({ ttl: Duration.seconds(9_000_000_000) })
      yield* TestClock.adjust("10 days")
      const { remaining } = yield* backend.leaseTimeToLive(lease.id)
      assert.strictEqual(Duration.toSeconds(remaining), 9_000_000_000 - 864_000)
    }))

  it.effect("have ids that do not fit a number, and none twice", () =>
    Effect.gen(function*() {
      const { backend } = yield* open
      const first = yield* backend.leaseGrant({ ttl: "2 seconds" })
      assert.isAbove(Number(first.id), Number.MAX_SAFE_INTEGER)
      yield* backend.leaseGrant({ ttl: "2 seconds", id: first.id + 1n })
      yield* backend.leaseRevoke(first.id)
      assert.strictEqual((yield* backend.leaseGrant({ ttl: "2 seconds" })).id, first.id + 2n)
    }))
})

describe("a timer", () => {
  const openCounted = Effect.gen(function*() {
    const { clock, counts } = countingClock(yield* Clock.Clock)
    return { store: yield* Effect.provideService(MemoryStore.make(), Clock.Clock, clock), counts }
  })

  it.effect("runs only while there is a lease", () =>
    Effect.gen(function*() {
      const { counts, store } = yield* openCounted
      const backend = yield* store.connect
      yield* backend.execute(Op.put("a", "1"))
      assert.strictEqual(counts.sleeping, 0)
      const one = yield* backend.leaseGrant({ ttl: "10 seconds" })
      const two = yield* backend.leaseGrant({ ttl: "5 seconds" })
      yield* backend.leaseGrant({ ttl: "20 seconds", id: 3n })
      assert.strictEqual(counts.sleeping, 1)
      yield* backend.leaseRevoke(one.id)
      yield* backend.leaseRevoke(two.id)
      assert.strictEqual(counts.sleeping, 1)
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(counts.sleeping, 0)
      assert.strictEqual((yield* store.statistics).leases, 0)
    }))

  it.effect("stops with the last client, and leases still end", () =>
    Effect.gen(function*() {
      const { counts, store } = yield* openCounted
      const [one, two] = [yield* Scope.make(), yield* Scope.make()]
      const backend = yield* Scope.provide(store.connect, one)
      yield* Scope.provide(store.connect, two)
      const lease = yield* backend.leaseGrant({ ttl: "10 seconds" })
      yield* backend.execute(Op.put("a", "1", { lease: lease.id }))
      yield* Scope.close(one, Exit.void)
      assert.strictEqual(counts.sleeping, 1)
      yield* Scope.close(two, Exit.void)
      assert.strictEqual(counts.sleeping, 0)
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual((yield* store.statistics).keys, 1)
      yield* Effect.scoped(store.connect)
      assert.strictEqual(counts.sleeping, 0)
      yield* TestClock.adjust("1001 millis")
      const { keys, leases } = yield* store.statistics
      assert.deepStrictEqual([keys, leases], [0, 0])
    }))
})
