/**
 * Readers of the index see whole versions only.
 */
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { program } from "../src/SearchIndex.ts"

it.live("readers never see half of a replacement", () =>
  Effect.gen(function*() {
    const seen = yield* program
    assert.strictEqual(seen.length, 3)
    for (const version of seen.flat()) assert.match(version, /^[1-4]$/)
  }).pipe(Effect.provide(MemoryLayer.layer)))
