/** Layers that provide `Kv` from memory, for tests and for programs that run as one process. */
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { batched, type BatchingOptions } from "./internal/batching.ts"
import * as client from "./internal/client.ts"
import { named } from "./internal/namedStores.ts"
import * as time from "./internal/time.ts"
import * as MemoryStore from "./MemoryStore.ts"

/**
 * Options of a client of a store in memory.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * How concurrent operations are batched into transactions (see `Batching`); `false` disables batching. Default:
   * `false`.
   *
   * **When to use**
   *
   * `batching: {}` batches as `EtcdLayer` does by default. Run the tests of a recipe that reads revisions both ways:
   * batching lets concurrent writes without a lease share a revision.
   */
  readonly batching?: false | BatchingOptions | undefined
}

export type { BatchingOptions }

/**
 * {@link layerStore} with options.
 *
 * **Gotchas**
 *
 * An option that is not a positive integer is a defect: options are part of the program.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryLayer, MemoryStore } from "@effect-kv/memory"
 * import { Effect, Layer } from "effect"
 *
 * const Live = MemoryLayer.layerStoreWith({ batching: {} }).pipe(Layer.provide(MemoryStore.layer()))
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   // Made at the same time, the two writes may share a revision.
 *   yield* Effect.all([kv.put("a", "1"), kv.put("b", "2")], { concurrency: "unbounded" })
 *   yield* kv.get("b") // => Option.some("2")
 * }).pipe(Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 */
export const layerStoreWith = (options: Options): Layer.Layer<Kv.Kv, never, MemoryStore.MemoryStore> =>
  Kv.layer(Effect.flatMap(
    MemoryStore.MemoryStore,
    (store) => Effect.map(store.connect, batched(options.batching ?? false))
  ))

/**
 * {@link layer} with options.
 *
 * **Gotchas**
 *
 * An option that is not a positive integer is a defect: options are part of the program.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   yield* Kv.get("config/limit") // => Option.some("10")
 * }).pipe(Effect.provide(MemoryLayer.layerWith({ batching: { maxOps: 64 } })))
 * ```
 *
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<Kv.Kv> =>
  Layer.provide(layerStoreWith(options), MemoryStore.layer())

/**
 * Provides `Kv` as a client of the `MemoryStore` in the environment.
 *
 * **When to use**
 *
 * To simulate several processes on one store: `Layer.fresh(MemoryLayer.layerStore)` makes a client for each. So does
 * `MemoryStore.connect`.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryLayer, MemoryStore } from "@effect-kv/memory"
 * import { Effect, Layer } from "effect"
 *
 * const asAnotherProcess = Effect.provide(Layer.fresh(MemoryLayer.layerStore))
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("from", "a").pipe(asAnotherProcess)
 *   yield* Kv.get("from").pipe(asAnotherProcess) // => Option.some("a")
 * }).pipe(Effect.provide(MemoryStore.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const layerStore: Layer.Layer<Kv.Kv, never, MemoryStore.MemoryStore> = layerStoreWith({})

/**
 * Provides `Kv` from a store in memory that no other layer shares. The store ends with the layer.
 *
 * **Details**
 *
 * All time is taken from Effect's `Clock`: under the `TestClock`, leases and locks expire as the test adjusts the time.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   yield* Kv.get("config/limit") // => Option.some("10")
 * }).pipe(Effect.provide(MemoryLayer.layer))
 * ```
 *
 * @since 0.1.0
 */
export const layer: Layer.Layer<Kv.Kv> = layerWith({})

/**
 * Provides `Kv` from the store in memory that a URL names: `mem:` is a store of its own, `mem:NAME` the store that all
 * layers of that name in this process share.
 *
 * **Details**
 *
 * A name consists of letters, digits and `. _ ~ -`. A named store outlives its layers. While at least one of its layers
 * is open, it runs on the `Clock` that the first of them was built with. Any other URL fails with `InvalidRequest`.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("greeting", "hello").pipe(Effect.provide(MemoryLayer.fromUrl("mem:shared")))
 *   yield* Kv.get("greeting").pipe(Effect.provide(MemoryLayer.fromUrl("mem:shared"))) // => Option.some("hello")
 *   yield* Kv.get("greeting").pipe(Effect.provide(MemoryLayer.fromUrl("mem:"))) // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
export const fromUrl = (url: string): Layer.Layer<Kv.Kv, KvError.KvError> => {
  const name = /^mem:([A-Za-z0-9._~-]*)$/i.exec(url)?.[1]
  if (name === undefined) return Layer.effect(Kv.Kv, KvError.fail(new KvError.InvalidRequest({ message: malformed })))
  return name === "" ? Layer.fresh(layer) : layerNamed(name)
}

const malformed = "the URL of a store in memory must be mem: or mem:NAME, the name made of letters, digits and . _ ~ -"

const layerNamed = (name: string): Layer.Layer<Kv.Kv> =>
  Kv.layer(Effect.flatMap(time.fromContext, (time) => client.connect(named(name, time))))
