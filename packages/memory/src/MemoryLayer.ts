/**
 * The layers that provide `Kv` from memory: for tests, and for programs on one machine.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { batched, type BatchingOptions } from "./internal/batching.ts"
import * as client from "./internal/client.ts"
import { named } from "./internal/namedStores.ts"
import * as time from "./internal/time.ts"
import * as MemoryStore from "./MemoryStore.ts"

/** How a client uses its store. */
export interface Options {
  /**
   * How concurrent operations are batched into transactions (see `Batching`), `false` for not at all. Default: `false`.
   *
   * **When to use**
   *
   * `batching: {}` batches as `EtcdLayer` does by default. Run the tests of a recipe that reads revisions both ways: batching
   * lets concurrent writes without a lease share a revision.
   */
  readonly batching?: false | BatchingOptions | undefined
}

export type {
  /** See `Batching.Options`. */
  BatchingOptions
}

/**
 * {@link layerStore} with options.
 *
 * **Gotchas**
 *
 * A number that is not a positive integer is a defect: options are part of the program.
 */
export const layerStoreWith = (options: Options): Layer.Layer<Kv.Kv, never, MemoryStore.MemoryStore> =>
  Kv.layer(Effect.flatMap(
    MemoryStore.MemoryStore,
    (store) => Effect.map(store.connect, batched(options.batching ?? false))
  ))

/** {@link layer} with options. */
export const layerWith = (options: Options): Layer.Layer<Kv.Kv> =>
  Layer.provide(layerStoreWith(options), MemoryStore.layer())

/**
 * A client of the `MemoryStore` in the environment.
 *
 * **When to use**
 *
 * To play several processes on one store: `Layer.fresh(MemoryLayer.layerStore)` for each. Or `MemoryStore.connect`.
 */
export const layerStore: Layer.Layer<Kv.Kv, never, MemoryStore.MemoryStore> = layerStoreWith({})

/** A store of its own, gone with the layer. */
export const layer: Layer.Layer<Kv.Kv> = layerWith({})

/**
 * Opens a store by URL: `mem:` is one of its own, `mem:NAME` the one that all layers of that name in this process share.
 *
 * **Details**
 *
 * A name is made of letters, digits and `. _ ~ -`. The store of a name outlives its layers. While a layer of it is open
 * it goes by the `Clock` that the first of them was built with.
 *
 * Anything else is an `InvalidRequest`.
 */
export const fromUrl = (url: string): Layer.Layer<Kv.Kv, KvError.KvError> => {
  const name = /^mem:([A-Za-z0-9._~-]*)$/i.exec(url)?.[1]
  if (name === undefined) return Layer.effect(Kv.Kv, KvError.fail(new KvError.InvalidRequest({ message: malformed })))
  return name === "" ? Layer.fresh(layer) : layerNamed(name)
}

const malformed = "the URL of a store in memory must be mem: or mem:NAME, the name made of letters, digits and . _ ~ -"

const layerNamed = (name: string): Layer.Layer<Kv.Kv> =>
  Kv.layer(Effect.flatMap(time.fromContext, (time) => client.connect(named(name, time))))
