/**
 * Concurrent transfers keep the total, and no account is overdrawn.
 */
import { KeyRange, Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Transfers from "../src/Transfers.ts"

it.effect("concurrent transfers keep the total, and overdraw no account", () =>
  Effect.gen(function*() {
    yield* Kv.put("accounts/a", "50")
    const made = yield* Effect.all(
      Array.from({ length: 10 }, (_, i) => Transfers.transfer("a", `${i}`, 10)),
      { concurrency: "unbounded" }
    )
    assert.lengthOf(made.filter((done) => done), 5)
    assert.strictEqual(yield* Transfers.total, 50)
    const { entries } = yield* Kv.range(KeyRange.prefix("accounts/"))
    assert.isTrue(entries.every(({ lossyText }) => Number(lossyText) >= 0))
  }).pipe(Effect.provide(MemoryLayer.layer)))
