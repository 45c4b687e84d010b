/**
 * Batching by a client in memory: only if the options enable it.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"

/** The revisions of fifty concurrent puts. */
const revisions = (layer: Layer.Layer<Kv.Kv>) =>
  Effect.forEach(
    Array.from({ length: 50 }, (_, i) => i),
    (i) => Effect.map(Kv.put(`k${i}`, "v"), (response) => response.revision),
    { concurrency: "unbounded" }
  ).pipe(Effect.provide(layer))

const client = (options: MemoryLayer.Options) =>
  Effect.map(Layer.build(Layer.fresh(MemoryLayer.layerStoreWith(options))), Context.get(Kv.Kv))

describe("batching in memory", () => {
  it.effect("is off by default: concurrent puts have revisions of their own", () =>
    Effect.gen(function*() {
      assert.strictEqual(new Set(yield* revisions(MemoryLayer.layer)).size, 50)
      assert.strictEqual(new Set(yield* revisions(MemoryLayer.layerWith({ batching: false }))).size, 50)
    }))

  it.effect("lets concurrent puts share a revision: the first is sent alone, the others as a batch", () =>
    Effect.gen(function*() {
      const shared = yield* revisions(MemoryLayer.layerWith({ batching: {} }))
      assert.deepStrictEqual(shared, [2n, ...Array.from({ length: 49 }, () => 3n)])
      const small = yield* revisions(MemoryLayer.layerWith({ batching: { maxOps: 7, maxInFlight: 1 } }))
      assert.deepStrictEqual(small, [2n, ...Array.from({ length: 49 }, (_, i) => 3n + BigInt(Math.floor(i / 7)))])
    }))

  it.effect("changes nothing for calls that do not overlap", () =>
    Effect.gen(function*() {
      const puts = Effect.forEach(["a", "b", "c"], (key) => Kv.put(key, "v"))
      const responses = yield* Effect.provide(puts, MemoryLayer.layerWith({ batching: {} }))
      assert.deepStrictEqual(responses.map((response) => response.revision), [2n, 3n, 4n])
    }))

  it.effect("never applies the operation of a fiber after that fiber was interrupted", () =>
    Effect.gen(function*() {
      const [batching, plain] = [yield* client({ batching: {} }), yield* client({})]
      const fibers = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, i) => i),
        (i) => Effect.forkChild(batching.put(`k${i}`, "older"))
      )
      for (let i = 0; i < 20; i++) {
        yield* Fiber.interrupt(fibers[i]!)
        yield* plain.put(`k${i}`, "newer")
      }
      yield* Effect.forEach(fibers, Fiber.await)
      yield* batching.put("k", "newer")
      const { entries } = yield* plain.range(KeyRange.all)
      assert.isTrue(entries.every((entry) => entry.lossyText === "newer"))
    }).pipe(Effect.provide(MemoryStore.layer())))

  it.effect("ends with the client: queued calls fail with Closed", () =>
    Effect.gen(function*() {
      const puts = Effect.forEach(Array.from({ length: 300 }, (_, i) => i), (i) => Kv.put(`k${i}`, "v"), {
        concurrency: "unbounded"
      })
      const kv = yield* Effect.scoped(client({ batching: {} }))
      const error = yield* Effect.flip(Effect.provideService(puts, Kv.Kv, kv))
      assert.strictEqual(error.reason._tag, "Closed")
    }).pipe(Effect.provide(MemoryStore.layer())))

  it.effect("counts no time while it waits for a turn of the scheduler", () =>
    Effect.gen(function*() {
      const kv = yield* client({ batching: { maxInFlight: 1 } })
      yield* Effect.forEach(Array.from({ length: 500 }), () => kv.put("hot", "v"), { concurrency: "unbounded" }).pipe(
        Deadline.within("1 millis")
      )
      assert.isTrue(Option.isSome(yield* kv.get("hot")))
    }).pipe(Effect.provide(MemoryStore.layer())))

  it.effect("makes the layer die if a number is not a positive integer, and the message names the option", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Layer.build(MemoryLayer.layerWith({ batching: { maxOps: 0 } })))
      assert.isTrue(Exit.hasDies(exit))
      assert.include(String(exit), "maxOps must be a positive integer")
    }))
})
