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

it.live("drivers of different directions never meet on the road", () =>
  Effect.gen(function*() {
    const { haveMet } = yield* program
    assert.isFalse(haveMet)
    assert.strictEqual(yield* Kv.count(KeyRange.prefix("road/")), 0)
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.live("drivers of one direction share the road", () =>
  Effect.gen(function*() {
    const [first, second] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
    // Each leaves only when the other is on the road as well.
    yield* Effect.all([
      Effect.andThen(Deferred.succeed(first, undefined), Deferred.await(second)).pipe(withDirection("road", "east")),
      Effect.andThen(Deferred.succeed(second, undefined), Deferred.await(first)).pipe(withDirection("road", "east"))
    ], { concurrency: "unbounded" })
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
