/**
 * Imports never use more permits than there are, and one that is cut off writes nothing.
 */
import { DistSemaphore, Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { Imports, limit, program } from "../src/BoundedImports.ts"

const layer = Imports.layer.pipe(Layer.provideMerge(MemoryLayer.layer))

it.effect("imports use all permits and never more", () =>
  Effect.gen(function*() {
    const { holders } = yield* DistSemaphore.make("imports", { permits: limit })
    const used = Effect.map(holders, (all) => all.reduce((sum, { permits }) => sum + permits, 0))
    const running = yield* Effect.forkChild(program)
    // No import ends before the clock moves, so all that there is room for begin.
    yield* Effect.repeat(used, { until: (permits) => permits === limit })
    yield* Effect.repeat(TestClock.adjust("100 millis"), { until: () => running.pollUnsafe() !== undefined })
    assert.strictEqual(yield* Fiber.join(running), limit)
    assert.deepStrictEqual(yield* holders, [])
  }).pipe(Effect.provide(layer)))

it.live("an import whose permits are lost is interrupted, and the next one runs", () =>
  Effect.gen(function*() {
    const imports = yield* Imports
    const semaphore = yield* DistSemaphore.make("imports", { permits: limit })
    const working = yield* Deferred.make<void>()
    const lost = yield* Effect.forkChild(
      Effect.exit(imports.run("lost", "large", Effect.andThen(Deferred.succeed(working, undefined), Effect.never)))
    )
    yield* Deferred.await(working)
    const [holder] = yield* semaphore.holders
    assert.deepStrictEqual([holder?.description, holder?.permits], ["lost", 2])
    const next = yield* Effect.forkChild(imports.run("next", "large", Kv.put("imported", "yes")))
    yield* Kv.delete(holder!.key)
    assert.strictEqual((yield* Fiber.join(lost))._tag, "Failure")
    yield* Fiber.join(next)
  }).pipe(Effect.provide(layer)))
