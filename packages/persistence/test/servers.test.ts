/**
 * The cases of all modules on real servers: one for all cases, a namespace for each.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as KvInternals from "@effect-kv/core/KvInternals"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as keyValueStore from "./cases/keyValueStore.ts"
import * as persistedCache from "./cases/persistedCache.ts"
import { cacheOn, Name } from "./cases/persistedCache.ts"
import * as persistence from "./cases/persistence.ts"
import * as rateLimiter from "./cases/rateLimiter.ts"
import { storeOn } from "./cases/rateLimiter.ts"
import { servers } from "./support/servers.ts"
import { type Case, client, clients, count, onServer } from "./support/store.ts"

for (const [name, server] of servers) {
  layer(server, { excludeTestServices: true, timeout: "1 minute" })(`on ${name}`, (it) => {
    const suite = (name: string, cases: ReadonlyArray<Case>) => {
      for (const { run, title } of cases) {
        it.effect(`${name}: ${title}`, () => Effect.provide(Effect.scoped(run), onServer))
      }
    }
    it.effect("PersistedCache: the death of the client that looks a key up hands it to the next one after the lock's TTL", () =>
      Effect.gen(function*() {
        const faults = yield* Effect.flatMap(client, (kv) => KvFaults.make(KvInternals.backendOf(kv)))
        const began = yield* Deferred.make<void>()
        const dying = yield* cacheOn(
          faults.kv,
          () => Effect.andThen(Deferred.succeed(began, undefined), Effect.never),
          { lockTtl: "2 seconds" }
        )
        const others = yield* Effect.forEach(yield* clients(5), (kv) => cacheOn(kv, () => Effect.succeed("second")))
        const key = new Name({ id: 1 })
        const dead = yield* Effect.forkChild(dying.get(key))
        yield* Deferred.await(began)
        yield* faults.partition()
        const names = yield* Effect.forEach(others, (cache) => cache.get(key), { concurrency: "unbounded" })
        assert.deepStrictEqual(new Set(names), new Set(["second"]))
        yield* Fiber.interrupt(dead)
      }).pipe(Effect.scoped, Effect.provide(onServer)))

    it.effect("RateLimiter: clients that contend for a key without a pause all succeed, and few of their writes conflict", () =>
      Effect.gen(function*() {
        let writes = 0
        const counted = (kv: Kv.Kv) =>
          Kv.mapBackend(kv, (backend) => ({
            ...backend,
            execute: (op) => {
              if (op._tag === "Txn") writes++
              return backend.execute(op)
            }
          }))
        const limits = yield* Effect.forEach(yield* clients(8), (kv) => storeOn(counted(kv)))
        const take = (limit: typeof limits[number]) =>
          limit.fixedWindow({ key: "a", tokens: 1, refillRate: Duration.hours(1), limit: undefined })
        // Connected, and with a lease.
        yield* Effect.forEach(limits, take, { concurrency: "unbounded" })
        writes = 0
        const calls = 10
        const loop = (limit: typeof limits[number]) =>
          Effect.forEach(count(calls), () => take(limit), { discard: true })
        yield* Effect.forEach(limits, loop, { concurrency: "unbounded", discard: true })
        // With turns fewer than two for each call, without them more than four.
        assert.isAtMost(writes, 3 * calls * limits.length)
      }).pipe(Effect.scoped, Effect.provide(onServer)))

    suite("KeyValueStore", keyValueStore.cases)
    suite("Persistence", persistence.cases)
    suite("PersistedCache", persistedCache.cases(10))
    suite("RateLimiter", rateLimiter.cases(4))
  })
}
