/**
 * What `Persistence` promises, on any store.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as Lease from "@effect-kv/core/Lease"
import { KvPersistence } from "@effect-kv/persistence"
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Persistable from "effect/persistence/Persistable"
import * as Persistence from "effect/persistence/Persistence"
import * as Schema from "effect/Schema"
import { type Case, client, count, on } from "../support/store.ts"

export class User extends Persistable.Class<{ payload: { id: number } }>()("User", {
  primaryKey: ({ id }) => `${id}`,
  success: Schema.Struct({ name: Schema.String }),
  error: Schema.String
}) {}

export const storeOn = (kv: Kv.Kv, storeId = "users") =>
  Effect.flatMap(on(kv)(KvPersistence.makeBacking()), (backing) => backing.make(storeId))

const store = Effect.flatMap(client, (kv) => storeOn(kv))

const revision = (kv: Kv.Kv) => Effect.map(kv.range(KeyRange.all, { limit: 1 }), (response) => response.revision)

export const cases: ReadonlyArray<Case> = [
  {
    title: "an entry that was set is read back until it is removed",
    run: Effect.gen(function*() {
      const users = yield* store
      assert.isUndefined(yield* users.get("1"))
      yield* users.set("1", { name: "Ada" }, undefined)
      assert.deepStrictEqual(yield* users.get("1"), { name: "Ada" })
      yield* users.set("1", { name: "Bob", tags: [null, { a: 1.5 }] }, Duration.infinity)
      assert.deepStrictEqual(yield* users.get("1"), { name: "Bob", tags: [null, { a: 1.5 }] })
      yield* users.remove("1")
      assert.isUndefined(yield* users.get("1"))
    })
  },
  {
    title: "getMany returns one result for each key, in order, also for missing and repeated ones",
    run: Effect.gen(function*() {
      const users = yield* store
      yield* users.setMany([["a", { n: 1 }, undefined], ["", { n: 2 }, undefined]])
      assert.deepStrictEqual(yield* users.getMany(["x", "a", "", "a"]), [undefined, { n: 1 }, { n: 2 }, { n: 1 }])
    })
  },
  {
    title: "setMany writes 300 entries in three transactions, and the last of several with one key",
    run: Effect.gen(function*() {
      const kv = yield* client
      const users = yield* storeOn(kv)
      const before = yield* revision(kv)
      yield* users.setMany([
        ["0", { n: "first" }, undefined],
        ...count(300).map((i) => [`${i}`, { n: i }, undefined] as const)
      ])
      assert.strictEqual(yield* revision(kv), before + 3n)
      const [head, ...tail] = count(300).map(String)
      assert.deepStrictEqual(yield* users.getMany([head!, ...tail]), [
        { n: 0 },
        ...count(299).map((i) => ({ n: i + 1 }))
      ])
    })
  },
  {
    title: "setMany writes entries that together are too large for one request",
    run: Effect.gen(function*() {
      const users = yield* store
      const text = "x".repeat(400_000)
      const [head, ...tail] = count(6).map((i) => [`${i}`, { text }, undefined] as const)
      yield* users.setMany([head!, ...tail])
      assert.deepStrictEqual(yield* users.get("5"), { text })
    })
  },
  {
    title: "entries with similar times to live share a lease",
    run: Effect.gen(function*() {
      const kv = yield* client
      const users = yield* storeOn(kv)
      yield* Effect.forEach(
        count(20),
        (i) => users.set(`${i}`, { n: i }, Duration.millis(60_000 - 10 * i)),
        { concurrency: "unbounded" }
      )
      const { entries } = yield* kv.range(KeyRange.all)
      assert.strictEqual(entries.length, 20)
      assert.strictEqual(new Set(entries.map(({ lease }) => Option.getOrThrow(lease))).size, 1)
    })
  },
  {
    title: "if a lease has ended early, the next entry gets another one",
    run: Effect.gen(function*() {
      const kv = yield* client
      const users = yield* storeOn(kv)
      yield* users.set("1", { n: 1 }, Duration.minutes(1))
      const { entries } = yield* kv.range(KeyRange.all)
      yield* on(kv)(Lease.revoke(Option.getOrThrow(entries[0]!.lease)))
      assert.isUndefined(yield* users.get("1"))
      yield* users.setMany([["1", { n: 1 }, Duration.minutes(1)], ["2", { n: 2 }, Duration.hours(1)]])
      assert.deepStrictEqual(yield* users.getMany(["1", "2"]), [{ n: 1 }, { n: 2 }])
    })
  },
  {
    title: "entries outlive the client that wrote them",
    run: Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        const users = yield* store
        yield* users.set("1", { n: 1 }, Duration.minutes(1))
      }))
      assert.deepStrictEqual(yield* (yield* store).get("1"), { n: 1 })
    })
  },
  {
    title: "clear deletes the entries of one store in one write, whatever its id",
    run: Effect.gen(function*() {
      const kv = yield* client
      const ids = ["a", "a/b", "a%2Fb", "", "a:"]
      const stores = yield* Effect.forEach(ids, (id) => storeOn(kv, id))
      for (const each of stores) yield* each.setMany([["b/k", { n: 1 }, undefined], ["k", { n: 2 }, undefined]])
      const before = yield* revision(kv)
      yield* stores[0]!.clear
      assert.strictEqual(yield* revision(kv), before + 1n)
      const left = yield* Effect.forEach(stores, (each) => each.get("k"))
      assert.deepStrictEqual(left, [undefined, { n: 2 }, { n: 2 }, { n: 2 }, { n: 2 }])
    })
  },
  {
    title: "an entry that is not JSON, or not of this module, is a failure that names its key",
    run: Effect.gen(function*() {
      const kv = yield* client
      const users = yield* storeOn(kv)
      const unwritable = yield* Effect.flip(users.set("big", { n: 1n }, undefined))
      assert.match(unwritable.message, /"big" cannot be written as JSON/)
      for (const value of ["{", "[]", "{\"expires\":1}", new Uint8Array([255])]) {
        yield* kv.put("persistence/users/foreign", value)
        const error = yield* Effect.flip(users.get("foreign"))
        assert.strictEqual(error._tag, "PersistenceError")
        assert.match(error.message, /"foreign" is not an entry/)
      }
    })
  },
  {
    title: "under a lock, 128 entries still fit, and no write is applied once the lock is lost",
    run: Effect.gen(function*() {
      const kv = yield* client
      const users = yield* storeOn(kv)
      const [head, ...tail] = count(128).map((i) => [`${i}`, { n: i }, undefined] as const)
      yield* on(kv)(DistLock.withDistLock(users.setMany([head!, ...tail]), "job"))
      const lost = yield* Effect.gen(function*() {
        const [contender] = yield* Effect.map(DistLock.holder("job"), Option.toArray)
        yield* kv.delete(contender!.key)
        return yield* users.set("late", { n: 1 }, undefined)
      }).pipe(DistLock.withDistLock("job"), on(kv), Effect.exit)
      assert.isTrue(Exit.isFailure(lost))
      assert.isUndefined(yield* users.get("late"))
    })
  },
  {
    title: "Persistence on it stores the exits of requests",
    run: Effect.gen(function*() {
      const kv = yield* client
      const persistence = yield* Effect.provide(
        Persistence.Persistence,
        KvPersistence.layer()
      ).pipe(on(kv))
      const users = yield* persistence.make({
        storeId: "users",
        timeToLive: (exit) => Exit.isSuccess(exit) ? "1 minute" : "1 hour"
      })
      yield* users.setMany([
        [new User({ id: 1 }), Exit.fail("not found")],
        [new User({ id: 2 }), Exit.succeed({ name: "Jane" })]
      ])
      assert.deepStrictEqual(
        yield* users.getMany([new User({ id: 2 }), new User({ id: 3 }), new User({ id: 1 })]),
        [Exit.succeed({ name: "Jane" }), undefined, Exit.fail("not found")]
      )
      assert.deepStrictEqual(yield* users.get(new User({ id: 1 })), Exit.fail("not found"))
      yield* users.clear
      assert.isUndefined(yield* users.get(new User({ id: 1 })))
    })
  }
]
