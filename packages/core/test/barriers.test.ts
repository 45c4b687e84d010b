/**
 * Barriers over many rounds of one name.
 */
import * as Barrier from "@effect-kv/core/Barrier"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"

describe("a barrier", () => {
  it.live("opens in 10,000 rounds, and leaves one key", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Effect.flatMap(store.connect, Kv.make)
      const enter = Effect.scoped(
        Effect.provideService(Barrier.enter("b", { parties: 1, id: "a", onLate: "next" }), Kv.Kv, kv)
      )
      for (let round = 0; round < 10_000; round++) assert.strictEqual(yield* enter, round)
      assert.strictEqual(yield* kv.count(KeyRange.all), 1)
    }), 60_000)
})
