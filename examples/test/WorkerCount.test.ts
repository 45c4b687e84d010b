/**
 * A worker is counted exactly as long as its scope is open.
 */
import { Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as WorkerCount from "../src/WorkerCount.ts"

it.effect("workers are counted while their scopes are open, however long that is", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* WorkerCount.count, 0)
    yield* Effect.scoped(Effect.gen(function*() {
      yield* WorkerCount.register("ada")
      yield* WorkerCount.register("bert")
      assert.strictEqual(yield* WorkerCount.count, 2)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* WorkerCount.count, 2)
    }))
    assert.strictEqual(yield* WorkerCount.count, 0)
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.effect("a worker whose key is deleted registers again at once", () =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    yield* WorkerCount.register("ada")
    const deleted = yield* kv.delete("workers/ada")
    const back = yield* kv.waitForChange("workers/ada", { startRevision: deleted.revision + 1n })
    assert.strictEqual(back._tag, "Put")
    assert.deepStrictEqual(yield* WorkerCount.running.pipe(Stream.take(1), Stream.runCollect), [["ada"]])
  }).pipe(Effect.provide(MemoryLayer.layer)))
