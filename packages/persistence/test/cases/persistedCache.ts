/**
 * What the cache with single flight promises, on any store.
 */
import type * as Kv from "@effect-kv/core/Kv"
import { KvPersistedCache, KvPersistence } from "@effect-kv/persistence"
import { assert } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Persistable from "effect/persistence/Persistable"
import * as Persistence from "effect/persistence/Persistence"
import * as Schema from "effect/Schema"
import { type Case, client, clients, count, on } from "../support/store.ts"

export class Name extends Persistable.Class<{ payload: { id: number } }>()("Name", {
  primaryKey: ({ id }) => `name/${id}`,
  success: Schema.String,
  error: Schema.Struct({ attempt: Schema.Number })
}) {}

type Failure = { readonly attempt: number }

type Settings = Partial<KvPersistedCache.Options<Name>>

/** A cache of one process: its own client, and its own `Persistence`. */
export const cacheOn = <R>(kv: Kv.Kv, lookup: (key: Name) => Effect.Effect<string, Failure, R>, settings?: Settings) =>
  KvPersistedCache.make(lookup, { storeId: "names", timeToLive: () => "1 minute", ...settings }).pipe(
    Effect.provide(KvPersistence.layer()),
    on(kv)
  )

/** Failures are not kept. */
export const forgetFailures: Settings = {
  timeToLive: (exit) => Exit.isSuccess(exit) ? "1 minute" : Duration.zero
}

export const cases = (fleet: number): ReadonlyArray<Case> => [
  {
    title: `${fleet} clients with a cold key run one lookup`,
    run: Effect.gen(function*() {
      let lookups = 0
      const caches = yield* Effect.forEach(yield* clients(fleet), (kv) =>
        cacheOn(kv, ({ id }) =>
          Effect.as(
            Effect.forEach(count(20), () => Effect.yieldNow),
            `user ${id} of lookup ${++lookups}`
          )))
      const names = yield* Effect.forEach(caches, (cache) => cache.get(new Name({ id: 1 })), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(new Set(names), new Set(["user 1 of lookup 1"]))
      assert.strictEqual(lookups, 1)
      const [first] = caches
      yield* first!.get(new Name({ id: 2 }))
      assert.strictEqual(lookups, 2)
    })
  },
  {
    title: "a result is read from the store by later clients, until it is invalidated",
    run: Effect.gen(function*() {
      let lookups = 0
      const lookup = () => Effect.sync(() => `lookup ${++lookups}`)
      const kv = yield* client
      const cache = yield* cacheOn(kv, lookup)
      const key = new Name({ id: 1 })
      assert.strictEqual(yield* cache.get(key), "lookup 1")
      assert.strictEqual(yield* cache.get(key), "lookup 1")
      assert.strictEqual(yield* (yield* cacheOn(yield* client, lookup)).get(key), "lookup 1")
      const stored = yield* Effect.flatMap(
        Effect.provide(Persistence.Persistence, KvPersistence.layer()).pipe(on(kv)),
        (persistence) => persistence.make({ storeId: "names" })
      )
      assert.deepStrictEqual(yield* stored.get(key), Exit.succeed("lookup 1"))
      yield* cache.invalidate(key)
      assert.isUndefined(yield* stored.get(key))
      assert.strictEqual(yield* cache.get(key), "lookup 2")
    })
  },
  {
    title:
      "a lookup that fails hands the key to the next client, and its failure is not kept if its time to live is zero",
    run: Effect.gen(function*() {
      let lookups = 0
      const lookup = () =>
        Effect.suspend(() => ++lookups < 3 ? Effect.fail({ attempt: lookups }) : Effect.succeed("found"))
      const caches = yield* Effect.forEach(yield* clients(6), (kv) => cacheOn(kv, lookup, forgetFailures))
      const exits = yield* Effect.forEach(caches, (cache) => Effect.exit(cache.get(new Name({ id: 1 }))), {
        concurrency: "unbounded"
      })
      assert.strictEqual(lookups, 3)
      assert.sameDeepMembers(exits, [
        Exit.fail({ attempt: 1 }),
        Exit.fail({ attempt: 2 }),
        ...count(4).map(() => Exit.succeed("found"))
      ])
      const retried = yield* Effect.forEach(caches, (cache) => cache.get(new Name({ id: 1 })))
      assert.deepStrictEqual(new Set(retried), new Set(["found"]))
    })
  },
  {
    title: "a failure is kept for all clients if its time to live says so",
    run: Effect.gen(function*() {
      let lookups = 0
      const lookup = () => Effect.suspend(() => Effect.fail({ attempt: ++lookups }))
      const caches = yield* Effect.forEach(yield* clients(4), (kv) => cacheOn(kv, lookup))
      const errors = yield* Effect.forEach(caches, (cache) => Effect.flip(cache.get(new Name({ id: 1 }))), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(errors, count(4).map(() => ({ attempt: 1 })))
    })
  },
  {
    title: "a lookup that is interrupted hands the key to the next client",
    run: Effect.gen(function*() {
      const began = yield* Deferred.make<void>()
      const first = yield* cacheOn(
        yield* client,
        () => Effect.andThen(Deferred.succeed(began, undefined), Effect.never)
      )
      const others = yield* Effect.forEach(yield* clients(3), (kv) => cacheOn(kv, () => Effect.succeed("second")))
      const leader = yield* Effect.forkChild(first.get(new Name({ id: 1 })))
      yield* Deferred.await(began)
      const waiting = yield* Effect.forkChild(
        Effect.forEach(others, (cache) => cache.get(new Name({ id: 1 })), { concurrency: "unbounded" })
      )
      yield* Fiber.interrupt(leader)
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["second", "second", "second"])
    })
  },
  {
    title: "a lookup can get its services from each get",
    run: Effect.gen(function*() {
      class Suffix extends Context.Service<Suffix, string>()("test/Suffix") {}
      const cache = yield* KvPersistedCache.make(
        ({ id }: Name) => Effect.map(Suffix, (suffix) => `${id}${suffix}`),
        { storeId: "names", timeToLive: () => "1 minute", requireServicesAt: "lookup" }
      ).pipe(Effect.provide(KvPersistence.layer()), on(yield* client))
      const get = (id: number, suffix: string) => Effect.provideService(cache.get(new Name({ id })), Suffix, suffix)
      assert.strictEqual(yield* get(1, "a"), "1a")
      assert.strictEqual(yield* get(2, "b"), "2b")
      assert.strictEqual(yield* get(1, "c"), "1a")
    })
  }
]
