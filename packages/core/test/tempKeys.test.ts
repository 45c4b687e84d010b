/**
 * Temporary keys of one client: concurrent calls for one name, namespaces, and a store that was replaced.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as TempKey from "@effect-kv/core/TempKey"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"

/** A backend whose responses arrive one turn of the scheduler later, as over a network. */
const slow = (backend: KvBackend): KvBackend => ({
  ...backend,
  execute: (op) => Effect.flatMap(Effect.exit(backend.execute(op)), (exit) => Effect.andThen(Effect.yieldNow, exit)),
  leaseGrant: (options) => Effect.andThen(Effect.yieldNow, backend.leaseGrant(options))
})

describe("temporary keys of one client", () => {
  it.effect("of one name made concurrently: one is made, the others fail with TempKeyTaken", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Kv.make(slow(yield* store.connect))
      const exits = yield* Effect.all(
        Array.from({ length: 10 }, () => Effect.result(Effect.provideService(TempKey.make("k"), Kv.Kv, kv))),
        { concurrency: "unbounded" }
      )
      const tags = exits.map((exit) =>
        exit._tag === "Success" ? "made" : exit.failure._tag === "KvError" ? exit.failure.message : exit.failure._tag
      )
      assert.deepStrictEqual(tags.toSorted(), [...Array.from({ length: 9 }, () => "TempKeyTaken"), "made"])
    }))

  it.effect("of one name in several namespaces share one lease", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      let grants = 0
      const backend = slow(yield* store.connect)
      const kv = yield* Kv.make({
        ...backend,
        leaseGrant: (options) => Effect.suspend(() => (grants++, backend.leaseGrant(options)))
      })
      const keys = yield* Effect.forEach(
        Array.from({ length: 10 }, (_, i) => Kv.prefixed(kv, `tenant-${i}/`)),
        (view) => Effect.provideService(TempKey.make("alive"), Kv.Kv, view),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(keys.length, 10)
      assert.strictEqual(grants, 1)
    }))

  it.effect("whose creation was interrupted do not reject a later plain put", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const gate = yield* Deferred.make<void>()
      const entered = yield* Deferred.make<void>()
      const root = yield* Kv.make(yield* store.connect)
      const kv = Kv.mapBackend(root, (backend) => ({
        ...backend,
        execute: (op) =>
          Effect.andThen(
            Effect.andThen(Deferred.succeed(entered, undefined), Deferred.await(gate)),
            backend.execute(op)
          )
      }))
      const fiber = yield* Effect.forkChild(Effect.scoped(Effect.provideService(TempKey.make("k"), Kv.Kv, kv)), {
        startImmediately: true
      })
      yield* Deferred.await(entered)
      const interruption = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(interruption)
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust("5 seconds")
      yield* root.put("k", "plain")
      assert.deepStrictEqual(yield* root.get("k"), Option.some("plain"))
    }))

  for (const isNoticed of [true, false]) {
    it.effect(`can be set after the store was replaced by an older one with the key and its lease, ${isNoticed ? "after" : "before"} the watch has noticed`, () =>
      Effect.gen(function*() {
        const before = yield* (yield* MemoryStore.make()).connect
        const after = yield* (yield* MemoryStore.make()).connect
        let now = before
        const replaced = yield* Deferred.make<never, KvError.KvError>()
        const kv = yield* Kv.make({
          execute: (op) => Effect.andThen(Effect.yieldNow, Effect.suspend(() => now.execute(op))),
          watch: (request) =>
            Effect.suspend(() => {
              const opened = now
              return Effect.map(now.watch(request), (watcher) => ({
                ...watcher,
                take: opened === before ? Effect.raceFirst(watcher.take, Deferred.await(replaced)) : watcher.take
              }))
            }),
          leaseGrant: (options) => Effect.andThen(after.leaseGrant(options), before.leaseGrant(options)),
          leaseKeepAlive: (id) => Effect.suspend(() => now.leaseKeepAlive(id)),
          leaseRevoke: (id) => Effect.suspend(() => now.leaseRevoke(id)),
          leaseTimeToLive: (id, options) => Effect.suspend(() => now.leaseTimeToLive(id, options))
        })
        for (let i = 0; i < 10; i++) yield* kv.put("other", `${i}`)
        const tempKey = yield* Effect.provideService(TempKey.make("k", { value: "1" }), Kv.Kv, kv)
        const lease = Option.getOrThrow(yield* tempKey.lease)
        yield* TestClock.adjust(0) // its watch is open
        yield* (yield* Kv.make(after)).put("k", "0", { lease })
        now = after
        if (isNoticed) {
          yield* Deferred.fail(
            replaced,
            KvError.make(new KvError.StoreReplaced({ message: "a backup was restored", outcome: "NotApplied" }))
          )
        }
        yield* TestClock.adjust("1 second")
        const setting = yield* Effect.forkChild(tempKey.set("2"), { startImmediately: true })
        for (let i = 0; i < 200 && setting.pollUnsafe() === undefined; i++) yield* Effect.yieldNow
        assert.isDefined(setting.pollUnsafe())
        assert.deepStrictEqual(yield* kv.get("k"), Option.some("2"))
      }))
  }
})
