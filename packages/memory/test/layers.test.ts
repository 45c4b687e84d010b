/**
 * Which layers share a store, how long a store lives, and what a closed client leaves.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as KvUrl from "@effect-kv/core/KvUrl"
import * as Op from "@effect-kv/core/Op"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import process from "node:process"

/** Builds the layer in a scope of its own, as one process would. */
const client = <R>(layer: Layer.Layer<Kv.Kv, KvError.KvError, R>) =>
  Effect.map(Layer.build(Layer.fresh(layer)), (context) => Context.get(context, Kv.Kv))

const reason = <A, R>(effect: Effect.Effect<A, KvError.KvError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

describe("MemoryLayer", () => {
  it.effect("layer is a store of its own for each build", () =>
    Effect.gen(function*() {
      const [one, two] = [yield* client(MemoryLayer.layer), yield* client(MemoryLayer.layer)]
      yield* one.put("a", "1")
      assert.deepStrictEqual(yield* two.get("a"), Option.none())
    }))

  it.effect("layerStore is a client of the store in the environment", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.MemoryStore
      const [one, two] = [yield* Kv.Kv, yield* client(MemoryLayer.layerStore)]
      yield* one.put("a", "1")
      assert.deepStrictEqual(yield* two.get("a"), Option.some("1"))
      assert.strictEqual((yield* store.statistics).clients, 2)
    }).pipe(Effect.provide(Layer.provideMerge(MemoryLayer.layerStore, MemoryStore.layer()))))

  it.effect("every call of a closed client fails with Closed", () =>
    Effect.gen(function*() {
      const backend = backendOf(yield* Effect.scoped(client(MemoryLayer.layer)))
      const calls = [
        backend.execute(Op.get("a")),
        backend.execute(Op.get("")),
        backend.watch({ range: { _tag: "Key", key: "a" } }),
        backend.leaseGrant({ ttl: "2 seconds" }),
        backend.leaseKeepAlive(1n),
        backend.leaseRevoke(1n),
        backend.leaseTimeToLive(1n)
      ]
      for (const call of calls) assert.strictEqual(yield* reason<unknown, never>(Effect.scoped(call)), "Closed")
    }))

  it.live("a closed client leaves no timer", () =>
    Effect.gen(function*() {
      const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length
      const before = timers()
      yield* Effect.scoped(Effect.gen(function*() {
        const backend = backendOf(yield* client(MemoryLayer.fromUrl("mem:timer")))
        yield* backend.leaseGrant({ ttl: "1 hour" })
        assert.strictEqual(timers(), before + 1)
      }))
      assert.strictEqual(timers(), before)
    }))
})

describe("MemoryLayer.fromUrl", () => {
  it.effect("mem: is a store of its own, even twice in one program", () =>
    Effect.gen(function*() {
      const [one, two] = [MemoryLayer.fromUrl("mem:"), MemoryLayer.fromUrl("mem:")]
      yield* Kv.put("a", "1").pipe(Effect.provide(one))
      assert.deepStrictEqual(yield* Effect.provide(Kv.get("a"), two), Option.none())
    }))

  it.effect("mem:NAME is shared, and survives its layers", () =>
    Effect.gen(function*() {
      yield* Kv.put("a", "1").pipe(Effect.provide(MemoryLayer.fromUrl("mem:shared.store_1~-")))
      const kv = yield* client(MemoryLayer.fromUrl("MEM:shared.store_1~-"))
      assert.deepStrictEqual(yield* kv.get("a"), Option.some("1"))
      const other = yield* client(MemoryLayer.fromUrl("mem:shared.store"))
      assert.deepStrictEqual(yield* other.get("a"), Option.none())
    }))

  it.effect.each([
    "mem://host",
    "mem:/path",
    "mem:a/b",
    "mem:a?b=c",
    "mem:#a",
    "mem: a",
    "mem:a%20b",
    "memory:",
    "http://a"
  ])(
    "%s is an InvalidRequest",
    (url) =>
      Effect.gen(function*() {
        assert.strictEqual(yield* reason(Effect.scoped(client(MemoryLayer.fromUrl(url)))), "InvalidRequest")
      })
  )

  it.effect("is opened by KvUrl", () =>
    Effect.gen(function*() {
      const kv = yield* client(KvUrl.layer("mem:by-url", { mem: MemoryLayer.fromUrl }))
      yield* kv.put("a", "1")
      assert.deepStrictEqual(yield* kv.get("a"), Option.some("1"))
    }))

  it.effect("a named store switches to the clock of its next client, and its leases keep the time they had left", () =>
    Effect.gen(function*() {
      const url = "mem:clocks"
      const lease = yield* Effect.scoped(Effect.gen(function*() {
        const backend = backendOf(yield* client(MemoryLayer.fromUrl(url)))
        yield* TestClock.adjust("1 hour")
        const lease = yield* backend.leaseGrant({ ttl: "10 seconds" })
        yield* TestClock.adjust("4 seconds")
        return lease
      })).pipe(Effect.provide(TestClock.layer()))
      const backend = backendOf(yield* client(MemoryLayer.fromUrl(url)))
      yield* TestClock.adjust("5 seconds")
      yield* backend.leaseTimeToLive(lease.id)
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(yield* reason(backend.leaseTimeToLive(lease.id)), "LeaseNotFound")
    }))
})
