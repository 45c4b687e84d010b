/**
 * Drivers share a road with those of their direction, and never meet others.
 */
import { KeyRange, Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { program, withDirection } from "../src/OneWay.ts"

it.live("drivers never meet on the road, and those of one direction share it", () =>
  Effect.gen(function*() {
    const { haveMet, most } = yield* program
    assert.isFalse(haveMet)
    assert.isAtLeast(most, 2)
    assert.strictEqual(yield* Kv.count(KeyRange.prefix("road/")), 0)
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.live("one that lost its place is interrupted, and the other direction goes", () =>
  Effect.gen(function*() {
    const drives = yield* Deferred.make<void>()
    const east = yield* Effect.forkChild(
      Effect.flip(Effect.andThen(Deferred.succeed(drives, undefined), Effect.never).pipe(withDirection("road", "east")))
    )
    yield* Deferred.await(drives)
    const west = yield* Effect.forkChild(Kv.put("arrived", "west").pipe(withDirection("road", "west")))
    yield* Kv.deleteRange(KeyRange.prefix("road/east/"))
    assert.strictEqual((yield* Fiber.join(east))._tag, "LockLost")
    yield* Fiber.join(west)
  }).pipe(Effect.provide(MemoryLayer.layer)))
