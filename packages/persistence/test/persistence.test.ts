/**
 * The expiry of entries, under the test clock: exact for readers, and soon afterwards in the store.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import { classOf, sliceOf } from "../src/internal/leasePool.ts"
import { storeOn } from "./cases/persistence.ts"
import { randomOf } from "./support/contended.ts"
import { count } from "./support/store.ts"

const connected = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const kv = yield* Effect.flatMap(store.connect, Kv.make)
  return { store, kv, users: yield* storeOn(kv) }
})

describe("entries that expire", () => {
  it.effect("are missing from the millisecond on at which they expire, and later also from the store", () =>
    Effect.gen(function*() {
      const { kv, store, users } = yield* connected
      yield* users.setMany([
        ["short", { n: 1 }, Duration.millis(1500)],
        ["long", { n: 2 }, Duration.minutes(10)],
        ["always", { n: 3 }, undefined]
      ])
      yield* TestClock.adjust(1499)
      assert.deepStrictEqual(yield* users.getMany(["short", "long", "always"]), [{ n: 1 }, { n: 2 }, { n: 3 }])
      yield* TestClock.adjust(1)
      assert.isUndefined(yield* users.get("short"))
      assert.strictEqual(yield* kv.count(KeyRange.all), 3)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* kv.count(KeyRange.all), 2)
      yield* TestClock.adjust("100 days")
      assert.deepStrictEqual(yield* users.getMany(["long", "always"]), [undefined, { n: 3 }])
      assert.strictEqual((yield* store.statistics).leases, 0)
    }).pipe(Effect.scoped))

  it.effect("never vanish early, and stay in the store for at most a quarter or three seconds longer", () =>
    Effect.gen(function*() {
      const { kv, users } = yield* connected
      const random = randomOf(7)
      let now = 0
      const expected = new Map<string, { readonly at: number; readonly ttl: number }>()
      for (const i of count(120)) {
        const ttl = Math.ceil(10 ** (3 + random() * 3))
        yield* users.set(`${i}`, { i }, Duration.millis(ttl))
        expected.set(`${i}`, { at: now, ttl })
        const step = Math.floor(random() * 5000)
        yield* TestClock.adjust(step)
        now += step
        const stored = new Set((yield* kv.range(KeyRange.all)).entries.map(({ key }) => key.split("/").at(-1)))
        for (const [key, { at, ttl }] of expected) {
          const age = now - at
          assert.strictEqual((yield* users.get(key)) !== undefined, age < ttl)
          if (age < ttl) assert.isTrue(stored.has(key))
          if (age > Math.max(ttl * 1.27, ttl + 4000)) {
            assert.isFalse(stored.has(key), `ttl ${ttl}, age ${age}`)
            expected.delete(key)
          }
        }
      }
    }).pipe(Effect.scoped))

  it("classes of times to live are never shorter, and few", () => {
    const random = randomOf(1)
    for (const _ of count(1000)) {
      const millis = 10 ** (random() * 9)
      const seconds = classOf(millis)
      assert.isAtLeast(seconds * 1000, millis)
      assert.isAtMost(seconds + sliceOf(seconds), Math.max(millis / 1000 * 1.27, millis / 1000 + 4))
    }
    const classes = new Set(count(3600).map((i) => classOf((i + 1) * 1000)))
    assert.isAtMost(classes.size, 80)
  })

  it.effect("do not share a lease for longer because the time of day stands still or is set back", () =>
    Effect.gen(function*() {
      const { kv, users } = yield* connected
      const clock = yield* Clock.Clock
      let backMillis = 0
      const behind = Effect.provideService(Clock.Clock, {
        ...clock,
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() - backMillis,
        currentTimeMillis: Effect.map(clock.currentTimeMillis, (millis) => millis - backMillis)
      })
      for (const i of count(4)) {
        yield* behind(users.set(`${i}`, { i }, Duration.minutes(1)))
        yield* TestClock.adjust("6 seconds")
        backMillis += 6000
      }
      const { entries } = yield* kv.range(KeyRange.all)
      assert.strictEqual(new Set(entries.map(({ lease }) => Option.getOrThrow(lease))).size, 2)
    }).pipe(Effect.scoped))

  it.effect("share a lease only with a limited number of others, because the store deletes them in one step", () =>
    Effect.gen(function*() {
      const { store, users } = yield* connected
      yield* Effect.forEach(count(15), (chunk) => {
        const [head, ...tail] = count(100).map((i) => [`${chunk}/${i}`, { i }, Duration.minutes(1)] as const)
        return users.setMany([head!, ...tail])
      })
      const { keys, leases } = yield* store.statistics
      assert.deepStrictEqual({ keys, leases }, { keys: 1500, leases: 2 })
    }).pipe(Effect.scoped))

  it.effect("share a grant that is in flight, which no caller's deadline or interruption ends for the others", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const faults = yield* Effect.flatMap(store.connect, KvFaults.make)
      const users = yield* storeOn(faults.kv)
      const held = yield* faults.hold("request", { when: ({ kind }) => kind === "leaseGrant" })
      const first = yield* Effect.forkChild(users.set("1", { n: 1 }, Duration.minutes(1)))
      yield* held.reached
      const second = yield* Effect.forkChild(users.set("2", { n: 2 }, Duration.minutes(1)))
      yield* Effect.forEach(count(50), () => Effect.yieldNow)
      yield* Fiber.interrupt(first)
      yield* held.letGo
      yield* Fiber.join(second)
      assert.deepStrictEqual(yield* users.getMany(["1", "2"]), [undefined, { n: 2 }])
      assert.strictEqual((yield* store.statistics).leases, 1)
    }).pipe(Effect.scoped))

  it.effect("a failure of the store is the cause of a PersistenceError", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const faults = yield* Effect.flatMap(store.connect, KvFaults.make)
      const users = yield* storeOn(faults.kv)
      yield* faults.inject(KvFaults.loseResponse, { when: KvFaults.isWrite })
      const error = yield* Effect.flip(users.set("1", { n: 1 }, undefined))
      assert.isTrue(KvError.isKvError(error.cause) && error.cause.outcome === "Unknown")
      assert.match(error.message, /could not write the entry "1"/)
    }).pipe(Effect.scoped))
})
