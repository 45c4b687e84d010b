/**
 * The memory stores that are compared: this library's backend, Effect's `KeyValueStore`, a bare `Map` and `keyv`.
 */
import { Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { KeyValueStore } from "effect/persistence"
import { Keyv } from "keyv"
import * as Calls from "./Calls.ts"

/** A client of a fresh store. */
export const openMemory = Effect.map(
  Layer.build(Layer.fresh(MemoryLayer.layer)),
  (context) => Context.get(context, Kv.Kv)
)

export const liveKeys = 100_000
const keys = Array.from({ length: liveKeys }, (_, i) => `bench/${`${i}`.padStart(6, "0")}`)

/** The keys in random order, repeatedly. */
export const shuffled = () => {
  let at = 0
  return (): string => keys[(at++ * 7919) % liveKeys]!
}

/** One store of each kind, filled with all keys. */
export const open = Effect.gen(function*() {
  const kv = yield* openMemory
  const store = Context.get(yield* Layer.build(KeyValueStore.layerMemory), KeyValueStore.KeyValueStore)
  const map = new Map<string, string>()
  const keyv = new Keyv<string>()
  for (const key of keys) {
    yield* kv.put(key, Calls.value)
    yield* store.set(key, Calls.value)
    map.set(key, Calls.value)
    yield* Effect.promise(() => keyv.set(key, Calls.value))
  }
  return { kv, store, map, keyv }
})

export type Stores = Effect.Success<typeof open>
