/**
 * The cache with single flight when clients crash, hang, lose locks or cannot reach the store.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Persistence from "effect/persistence/Persistence"
import { TestClock } from "effect/testing"
import { cacheOn, Name } from "./cases/persistedCache.ts"
import { on } from "./support/store.ts"

const key = new Name({ id: 1 })

/** Two clients of a store, the first one through faults. */
const two = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const faults = yield* Effect.flatMap(store.connect, KvFaults.make)
  return { faults, healthy: yield* Effect.flatMap(store.connect, Kv.make) }
})

/** Lets fibers run until the condition holds; the clock does not move. */
const until = (condition: () => boolean) =>
  Effect.gen(function*() {
    for (let turns = 0; !condition(); turns++) {
      assert.isBelow(turns, 10_000, "the condition does not come true")
      yield* Effect.yieldNow
    }
  })

const settled = Effect.forEach(Array.from({ length: 300 }), () => Effect.yieldNow, { discard: true })

describe("a cache with single flight", () => {
  it.effect("the death of the client that looks a key up hands it to the next one after the lock's TTL", () =>
    Effect.gen(function*() {
      const { faults, healthy } = yield* two
      const lookups: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const dead = yield* cacheOn(
        faults.kv,
        () => Effect.sync(() => lookups.push("dead")).pipe(Effect.andThen(Deferred.await(gate)), Effect.as("dead"))
      )
      const next = yield* cacheOn(healthy, () => Effect.sync(() => `lookup ${lookups.push("next")}`))
      const dying = yield* Effect.forkChild(dead.get(key))
      yield* until(() => lookups.length === 1)
      yield* faults.partition()
      const waiting = yield* Effect.forkChild(next.get(key))
      yield* settled
      yield* TestClock.adjust("6 seconds")
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Fiber.join(waiting), "lookup 2")
      yield* faults.heal
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Fiber.join(dying), "lookup 2")
      assert.deepStrictEqual(lookups, ["dead", "next"])
    }).pipe(Effect.scoped))

  it.effect("a client that loses the lock during its lookup does not write its result, and returns the next client's", () =>
    Effect.gen(function*() {
      const { faults, healthy } = yield* two
      const lookups: Array<string> = []
      const stale = yield* cacheOn(faults.kv, () =>
        Effect.gen(function*() {
          lookups.push("stale")
          yield* until(() => lookups.length === 2)
          return "stale"
        }))
      const next = yield* cacheOn(healthy, () => Effect.sync(() => `lookup ${lookups.push("next")}`))
      const losing = yield* Effect.forkChild(stale.get(key))
      yield* until(() => lookups.length === 1)
      yield* faults.loseLock("persisted-cache/names/name%2F1", "key")
      assert.strictEqual(yield* next.get(key), "lookup 2")
      assert.strictEqual(yield* Fiber.join(losing), "lookup 2")
      assert.strictEqual(yield* (yield* cacheOn(healthy, () => Effect.succeed("third"))).get(key), "lookup 2")
    }).pipe(Effect.scoped))

  it.effect("a client that does not notice that it lost the lock cannot overwrite the next client's result", () =>
    Effect.gen(function*() {
      const { faults, healthy } = yield* two
      const lookups: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const stale = yield* cacheOn(
        faults.kv,
        () => Effect.sync(() => lookups.push("stale")).pipe(Effect.andThen(Deferred.await(gate)), Effect.as("stale"))
      )
      const next = yield* cacheOn(healthy, () => Effect.sync(() => `lookup ${lookups.push("next")}`))
      const losing = yield* Effect.forkChild(stale.get(key))
      yield* until(() => lookups.length === 1)
      yield* settled
      yield* faults.cutWatches({ duration: "1 minute" })
      yield* faults.loseLock("persisted-cache/names/name%2F1", "key")
      assert.strictEqual(yield* next.get(key), "lookup 2")
      yield* settled
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(losing), "lookup 2")
      assert.deepStrictEqual(lookups, ["stale", "next"])
      assert.strictEqual(yield* (yield* cacheOn(healthy, () => Effect.succeed("third"))).get(key), "lookup 2")
    }).pipe(Effect.scoped))

  it.effect("a client waits for other lookups until its time-out, and remembers no such failure", () =>
    Effect.gen(function*() {
      const { faults, healthy } = yield* two
      let isHanging = false
      const hanging = yield* cacheOn(faults.kv, () =>
        Effect.andThen(
          Effect.sync(() => {
            isHanging = true
          }),
          Effect.never
        ))
      const cache = yield* cacheOn(healthy, () => Effect.succeed("found"), { waitTimeout: "15 seconds" })
      const leader = yield* Effect.forkChild(hanging.get(key))
      yield* until(() => isHanging)
      const waiting = yield* Effect.forkChild(Effect.flip(cache.get(key)))
      yield* settled
      yield* TestClock.adjust("14 seconds")
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(waiting)
      assert.instanceOf(error, Persistence.PersistenceError)
      assert.match(`${error}`, /looked up "name\/1" for longer than 15s/)
      yield* Fiber.interrupt(leader)
      assert.strictEqual(yield* cache.get(key), "found")
    }).pipe(Effect.scoped))

  it.effect("a client that acquires the lock after the result was written does not look the key up again", () =>
    Effect.gen(function*() {
      const { faults, healthy } = yield* two
      let lookups = 0
      const lookup = () => Effect.sync(() => `lookup ${++lookups}`)
      const late = yield* cacheOn(faults.kv, lookup)
      const held = yield* faults.hold("request", { when: ({ op }) => op?._tag === "Txn" })
      const getting = yield* Effect.forkChild(late.get(key))
      yield* held.reached
      assert.strictEqual(yield* (yield* cacheOn(healthy, lookup)).get(key), "lookup 1")
      yield* held.letGo
      assert.strictEqual(yield* Fiber.join(getting), "lookup 1")
      assert.strictEqual(lookups, 1)
    }).pipe(Effect.scoped))

  it.effect("a lookup that interrupts itself is not stored", () =>
    Effect.gen(function*() {
      const { faults, healthy } = yield* two
      const first = yield* cacheOn(faults.kv, () => Effect.interrupt)
      assert.isTrue(Exit.hasInterrupts(yield* Effect.exit(first.get(key))))
      assert.strictEqual(yield* (yield* cacheOn(healthy, () => Effect.succeed("found"))).get(key), "found")
    }).pipe(Effect.scoped))

  it.effect("a failure of the store fails the get, and is not remembered", () =>
    Effect.gen(function*() {
      const { faults } = yield* two
      const cache = yield* cacheOn(faults.kv, () => Effect.succeed("found"))
      yield* faults.inject(KvFaults.unavailable, { when: KvFaults.isWrite })
      const error = yield* Effect.flip(cache.get(key))
      assert.instanceOf(error, Persistence.PersistenceError)
      assert.isTrue(KvError.isKvError((error as Persistence.PersistenceError).cause))
      assert.strictEqual(yield* cache.get(key), "found")
    }).pipe(Effect.scoped))

  it.effect("the deadline of the caller that starts a lookup does not end it for the others", () =>
    Effect.gen(function*() {
      const { faults } = yield* two
      const cache = yield* cacheOn(
        faults.kv,
        () => Kv.get("slow").pipe(Effect.as("found"), Effect.orDie, on(faults.kv))
      )
      yield* faults.inject(KvFaults.delayRequest("2 seconds"), { times: 2 })
      yield* faults.inject(KvFaults.delayRequest("2 seconds"), { when: KvFaults.reads("slow") })
      const first = yield* Effect.forkChild(Deadline.within(cache.get(key), "1 second"))
      yield* settled
      const second = yield* Effect.forkChild(cache.get(key))
      for (let step = 0; step < 8; step++) {
        yield* settled
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual(yield* Fiber.join(second), "found")
      assert.strictEqual(yield* Fiber.join(first), "found")
    }).pipe(Effect.scoped))

  it.effect("a result that was read from the store just before it expired is returned no longer than its time in memory", () =>
    Effect.gen(function*() {
      const { faults, healthy } = yield* two
      let lookups = 0
      const lookup = () => Effect.sync(() => `lookup ${++lookups}`)
      const settings = { timeToLive: () => Duration.seconds(3) }
      yield* (yield* cacheOn(healthy, lookup, settings)).get(key)
      const late = yield* cacheOn(faults.kv, lookup, settings)
      const exact = yield* cacheOn(faults.kv, lookup, { ...settings, inMemoryTTL: () => Duration.zero })
      yield* TestClock.adjust(2999)
      assert.strictEqual(yield* late.get(key), "lookup 1")
      assert.strictEqual(yield* exact.get(key), "lookup 1")
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* exact.get(key), "lookup 2")
      yield* TestClock.adjust(2999)
      assert.strictEqual(yield* late.get(key), "lookup 2")
    }).pipe(Effect.scoped))

  it.effect("a result is kept in memory no longer than in the store", () =>
    Effect.gen(function*() {
      const { healthy } = yield* two
      let lookups = 0
      const cache = yield* cacheOn(healthy, () => Effect.sync(() => `lookup ${++lookups}`), {
        timeToLive: () => Duration.seconds(3)
      })
      assert.strictEqual(yield* cache.get(key), "lookup 1")
      yield* TestClock.adjust(2999)
      assert.strictEqual(yield* cache.get(key), "lookup 1")
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* cache.get(key), "lookup 2")
    }).pipe(Effect.scoped))

  it.effect("times that cannot be used are rejected when the cache is made", () =>
    Effect.gen(function*() {
      const { healthy } = yield* two
      const made = (settings: Parameters<typeof cacheOn>[2]) =>
        Effect.flip(cacheOn(healthy, () => Effect.succeed("found"), settings))
      for (const waitTimeout of ["soon", "-1 seconds", Number.NEGATIVE_INFINITY] as ReadonlyArray<Duration.Input>) {
        const error = yield* made({ waitTimeout })
        assert.strictEqual(error.reason._tag, "InvalidRequest")
        assert.include(error.message, "waitTimeout")
      }
      for (const lockTtl of ["soon", 0, "Infinity"] as ReadonlyArray<Duration.Input>) {
        assert.include((yield* made({ lockTtl })).message, "lockTtl")
      }
      for (const waitTimeout of [0, "Infinity"] as ReadonlyArray<Duration.Input>) {
        const cache = yield* cacheOn(healthy, () => Effect.succeed("found"), { waitTimeout })
        assert.strictEqual(yield* cache.get(key), "found")
      }
    }).pipe(Effect.scoped))
})
