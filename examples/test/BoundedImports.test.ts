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
import { Imports, limit, program } from "../src/BoundedImports.ts"

const layer = Imports.layer.pipe(Layer.provideMerge(MemoryLayer.layer))

it.live("imports use all permits and never more", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* program, limit)
    const { holders } = yield* DistSemaphore.make("imports", { permits: limit })
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
