/**
 * Nobody begins before the gate opens, nor begins an epoch before all have finished the one before.
 */
import { Latch } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { worker } from "../src/EpochBarrier.ts"

it.live("all finish an epoch before one begins the next", () =>
  Effect.gen(function*() {
    const epochs: Array<number> = []
    const names = ["ada", "bert", "cleo"]
    const fibers = yield* Effect.forEach(names, (name) =>
      Effect.forkChild(
        worker(name, { epochs: 4, workers: 3 }, (epoch) => Effect.sync(() => epochs.push(epoch))),
        { startImmediately: true }
      ))
    assert.deepStrictEqual(epochs, [])
    yield* Latch.open("gate")
    yield* Effect.forEach(fibers, Fiber.join)
    assert.deepStrictEqual(epochs, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
  }).pipe(Effect.provide(MemoryLayer.layer)))
