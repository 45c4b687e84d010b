/**
 * Stores in memory: servers without a network, whose clients `MemoryLayer` makes.
 *
 * A store has etcd's whole model: revisions, history, compaction, transactions, leases and watches. All time is taken
 * from Effect's `Clock`, so under the `TestClock` leases are deterministic and take no real time. Most programs need
 * `MemoryLayer` alone. This module is for several clients of one store, for compaction, and for other limits.
 */
import type * as KvBackend from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as client from "./internal/client.ts"
import { type HistoryOptions, type Options, resolveOptions } from "./internal/options.ts"
import { Store } from "./internal/store.ts"
import * as time from "./internal/time.ts"

/**
 * Identifies the `MemoryStore` service.
 *
 * @since 0.1.0
 */
export const TypeId: TypeId = "~@effect-kv/memory/MemoryStore"

/**
 * Identifies the `MemoryStore` service.
 *
 * @since 0.1.0
 */
export type TypeId = "~@effect-kv/memory/MemoryStore"

/**
 * The size of a store at one moment.
 *
 * @since 0.1.0
 */
export interface Statistics {
  /** The revision of the last write; an empty store is at 1. */
  readonly revision: bigint
  /** Reads below this revision fail, and watches start after it; `0n` if nothing was compacted. */
  readonly compactRevision: bigint
  /** How many keys exist. */
  readonly keys: number
  /** How many writes, deletes included, the history holds. */
  readonly historyWrites: number
  /** The memory that the history takes, in bytes; an estimate. */
  readonly historyBytes: number
  /** How many leases exist. */
  readonly leases: number
  /** How many watches are open. */
  readonly watches: number
  /** How many clients are connected. */
  readonly clients: number
}

/**
 * A store in memory.
 *
 * @since 0.1.0
 */
export interface MemoryStore {
  readonly [TypeId]: TypeId

  /** Connects a client. When the scope closes, its calls and watches fail with `Closed`; the store remains. */
  readonly connect: Effect.Effect<KvBackend.KvBackend, never, Scope.Scope>

  /** The revision of the last write; an empty store is at 1. */
  readonly revision: Effect.Effect<bigint>

  /**
   * Removes the history that no read at `revision` or later can see. Watches can then start after `revision`.
   *
   * Fails with `Compacted` if the store was compacted at this revision or later, and with `FutureRevision` if the
   * revision has not happened yet.
   */
  readonly compact: (revision: bigint) => Effect.Effect<void, KvError.KvError>

  /** The size of the store now. */
  readonly statistics: Effect.Effect<Statistics>
}

/**
 * The service tag of the store in memory.
 *
 * @since 0.1.0
 */
export const MemoryStore: Context.Service<MemoryStore, MemoryStore> = Context.Service<MemoryStore>(TypeId)

export type { HistoryOptions, Options }

/**
 * Makes a store that runs on the `Clock` of the environment.
 *
 * **Gotchas**
 *
 * A limit that is not a positive integer is a defect: options are part of the program.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make({ history: { revisions: 1_000 } })
 *   const a = yield* Effect.flatMap(store.connect, Kv.make)
 *   const b = yield* Effect.flatMap(store.connect, Kv.make)
 *   yield* a.put("from", "a")
 *   yield* b.get("from") // => Option.some("a")
 *   const { clients, keys } = yield* store.statistics
 *   const size = [clients, keys] // => [2, 1]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (options?: Options): Effect.Effect<MemoryStore> =>
  Effect.map(time.fromContext, (time) => fromStore(new Store(resolveOptions(options), time)))

/**
 * Provides a new store.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryLayer, MemoryStore } from "@effect-kv/memory"
 * import { Effect, Layer } from "effect"
 *
 * const Live = MemoryLayer.layerStore.pipe(Layer.provideMerge(MemoryStore.layer()))
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.MemoryStore
 *   const { revision } = yield* Kv.put("a", "1")
 *   yield* Kv.put("a", "2")
 *   yield* store.compact(revision + 1n)
 *   yield* Kv.get("a", { revision }).pipe(
 *     Effect.catchReason("KvError", "Compacted", () => Effect.succeed("compacted"))
 *   ) // => "compacted"
 * }).pipe(Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<MemoryStore> => Layer.effect(MemoryStore, make(options))

const fromStore = (store: Store): MemoryStore => ({
  [TypeId]: TypeId,
  connect: client.connect(store),
  revision: Effect.sync(() => {
    store.expireLeases()
    return store.mvcc.revisionId
  }),
  compact: (revision) =>
    Effect.suspend(() => {
      const rejected = store.compact(revision)
      return rejected === undefined ? Effect.void : Effect.fail(rejected)
    }),
  statistics: Effect.sync(() => statistics(store))
})

const statistics = (store: Store): Statistics => {
  store.expireLeases()
  return {
    revision: store.mvcc.revisionId,
    compactRevision: BigInt(store.mvcc.compacted),
    keys: store.mvcc.size,
    historyWrites: store.mvcc.log.length,
    historyBytes: store.mvcc.logBytes,
    leases: store.leases.size,
    watches: store.watches.size,
    clients: store.clients
  }
}
