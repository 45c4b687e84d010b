/**
 * What live configuration costs, how long it tries, and pools that are rebuilt with it.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvConfig from "@effect-kv/core/KvConfig"
import * as KvError from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as LayerRef from "effect/LayerRef"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"

const limit = Config.Int("limit")

/** A client whose calls are counted, and whose watches are denied on request. */
const counted = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const kv = yield* Kv.make(yield* store.connect)
  const calls = { reads: 0, watches: 0, isDenied: false, deny: yield* Deferred.make<never, KvError.KvError>() }
  const denied = KvError.make(new KvError.PermissionDenied({ message: "a test fault" }))
  const count = (backend: KvBackend): KvBackend => ({
    ...backend,
    execute: (op) => Effect.suspend(() => (calls.reads++, backend.execute(op))),
    watch: (request) =>
      Effect.suspend(() => {
        calls.watches++
        return calls.isDenied
          ? Effect.fail(denied)
          : Effect.map(backend.watch(request), (watcher) => ({
            ...watcher,
            take: Effect.raceFirst(watcher.take, Deferred.await(calls.deny))
          }))
      })
  })
  const deny = Effect.suspend(() => {
    calls.isDenied = true
    return Deferred.fail(calls.deny, denied)
  })
  const allow = Effect.map(Deferred.make<never, KvError.KvError>(), (never) => {
    calls.isDenied = false
    calls.deny = never
  })
  return { kv, calls, deny, allow, counting: Kv.mapBackend(kv, count) }
})

const configOf = (kv: Kv.Kv) => Effect.provideService(KvConfig.make("config/"), Kv.Kv, kv)

const until = <A>({ states }: KvConfig.Live<A>, is: (state: KvConfig.State<A>) => boolean) =>
  states.pipe(Stream.filter(is), Stream.runHead, Effect.map(Option.getOrThrow))

it.effect("values are read from memory: one watch and one read serve all of a configuration", () =>
  Effect.gen(function*() {
    const { calls, counting, kv } = yield* counted
    yield* kv.put("config/limit", "0")
    const config = yield* configOf(counting)
    const lives = yield* Effect.replicateEffect(config.ref(limit), 10)
    for (let n = 1; n <= 10; n++) {
      yield* kv.put("config/limit", `${n}`)
      for (const live of lives) yield* until(live, ({ value }) => value === n)
      assert.strictEqual(yield* config.get(limit), n)
    }
    assert.deepInclude(calls, { reads: 1, watches: 1 })
  }))

it.effect("while the permission is revoked it tries every 30 seconds at most, and is back within 30 seconds", () =>
  Effect.gen(function*() {
    const { allow, calls, counting, deny, kv } = yield* counted
    yield* kv.put("config/limit", "1")
    const config = yield* configOf(counting)
    const live = yield* config.ref(limit)
    yield* deny
    yield* until(live, ({ staleSince }) => Option.isSome(staleSince))
    yield* kv.put("config/limit", "2")
    yield* TestClock.adjust("1 hour")
    assert.isBelow(calls.watches, 135)
    assert.isAbove(calls.watches, 100)
    assert.strictEqual(yield* live.get, 1)
    yield* allow
    yield* TestClock.adjust("30 seconds")
    const { value } = yield* until(live, ({ staleSince }) => Option.isNone(staleSince))
    assert.strictEqual(value, 2)
  }).pipe(Effect.provide(Logger.layer([]))))

it.effect("a transformation that throws at a revision rejects that revision, and does not end the live values", () =>
  Effect.gen(function*() {
    const { kv } = yield* counted
    yield* kv.put("config/limit", "1")
    let isBad = false
    const transform: KvConfig.Options["transform"] = (store) => {
      if (isBad) throw new Error("it may quote a secret")
      return store
    }
    const config = yield* Effect.provideService(KvConfig.make("config/", { transform }), Kv.Kv, kv)
    const live = yield* config.ref(limit)
    isBad = true
    yield* kv.put("config/limit", "2")
    const { rejected, value } = yield* until(live, ({ rejected }) => Option.isSome(rejected))
    assert.strictEqual(value, 1)
    assert.deepInclude(Option.getOrThrow(rejected), { message: "a function of the config threw an exception" })
    isBad = false
    yield* kv.put("config/limit", "3")
    assert.strictEqual((yield* until(live, ({ value }) => value === 3)).value, 3)
  }).pipe(Effect.provide(Logger.layer([]))))

class Pool extends Context.Service<Pool, { readonly size: number }>()("Pool") {}

it.effect("a pool that is borrowed when its settings change stays until it is returned, and the next one is new", () =>
  Effect.gen(function*() {
    const { kv } = yield* counted
    yield* kv.put("config/limit", "8")
    const config = yield* configOf(kv)
    const closed: Array<number> = []
    const PoolLayer = Layer.effect(
      Pool,
      Effect.flatMap(
        limit,
        (size) => Effect.acquireRelease(Effect.succeed(Pool.of({ size })), () => Effect.sync(() => closed.push(size)))
      )
    ).pipe(
      Layer.provide(KvConfig.layerNewest),
      Layer.provide(Layer.succeed(KvConfig.KvConfig, config))
    )
    const current = yield* LayerRef.make(Layer.fresh(PoolLayer), { idleTimeToLive: "1 minute" })
    const borrow = Effect.map(current.contextEffect, Context.get(Pool))
    const sizeInUse = Effect.scoped(Effect.map(borrow, ({ size }) => size))
    yield* Effect.gen(function*() {
      const { size } = yield* borrow
      yield* kv.put("config/limit", "16")
      yield* until(yield* config.ref(limit), ({ value }) => value === 16)
      yield* current.invalidate
      assert.strictEqual(yield* sizeInUse, 16)
      assert.strictEqual(size, 8)
      assert.deepStrictEqual(closed, [])
    }).pipe(Effect.scoped)
    assert.deepStrictEqual(closed, [8])
    assert.strictEqual(yield* sizeInUse, 16)
  }))
