/**
 * A user's program with the published packages: it must type-check and run, imported from the index and from a module.
 */
import { KeyRange, Kv } from "@effect-kv/core"
import * as KvModule from "@effect-kv/core/Kv"
import { MemoryLayer } from "@effect-kv/memory"
import * as MemoryLayerModule from "@effect-kv/memory/MemoryLayer"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { deepStrictEqual, strictEqual } from "node:assert"

const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.put("config/limit", "10")
  yield* kv.put("config/name", "a")
  const limit: Option.Option<string> = yield* kv.get("config/limit")
  const { entries } = yield* kv.range(KeyRange.prefix("config/"))
  return { limit, keys: entries.map((entry) => entry.key) }
})

const result = await Effect.runPromise(program.pipe(Effect.provide(MemoryLayer.layer)))

deepStrictEqual(result, { limit: Option.some("10"), keys: ["config/limit", "config/name"] })
strictEqual(KvModule.Kv, Kv.Kv)
strictEqual(MemoryLayerModule.layer, MemoryLayer.layer)
