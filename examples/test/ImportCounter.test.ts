/**
 * Workers give each record a number of its own, and their count is exact.
 */
import { Counter } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ImportCounter from "../src/ImportCounter.ts"

it.effect("no record has the number of another one, and all are counted", () =>
  Effect.gen(function*() {
    const workers = Array.from({ length: 4 }, () => ImportCounter.worker(25))
    const numbers = (yield* Effect.all(workers, { concurrency: "unbounded" })).flat()
    assert.strictEqual(new Set(numbers).size, 100)
    assert.deepStrictEqual(
      numbers.toSorted((a, b) => Number(a - b)),
      Array.from({ length: 100 }, (_, i) => BigInt(i + 1))
    )
    assert.strictEqual(yield* Counter.get("imported"), 100n)
  }).pipe(Effect.provide(MemoryLayer.layer)))
