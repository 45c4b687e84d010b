/**
 * Ids of concurrent generators differ, and a generator that lost its slot makes none.
 */
import { KeyRange, Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as IdGenerator from "../src/IdGenerator.ts"

it.live("the ids of two generators are all different", () =>
  Effect.gen(function*() {
    const ids = IdGenerator.withGenerator((next) => Effect.replicateEffect(next, 200))
    const all = (yield* Effect.all([ids, ids], { concurrency: "unbounded" })).flat()
    assert.strictEqual(new Set(all).size, 400)
  }).pipe(Effect.provide(MemoryLayer.layer)))

it.live("a generator that lost its slot makes no more ids", () =>
  Effect.gen(function*() {
    const kv = yield* Kv.Kv
    let made = 0
    const lost = yield* Effect.flip(IdGenerator.withGenerator((next) =>
      Effect.andThen(
        kv.deleteRange(KeyRange.prefix("id-generators/")),
        Effect.forever(Effect.tap(next, () => {
          made++
          return Effect.sleep("1 millis")
        }))
      )
    ))
    assert.include(["KvError", "LockLost"], lost._tag)
    const before = made
    yield* Effect.sleep("20 millis")
    assert.strictEqual(made, before)
  }).pipe(Effect.provide(MemoryLayer.layer)))
