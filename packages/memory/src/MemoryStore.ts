/**
 * A store in memory: the server whose clients are made by `MemoryLayer`.
 *
 * It is etcd's model in full: revisions, history, compaction, transactions, leases and watches. All time is taken from
 * Effect's `Clock`, so that under a `TestClock` leases are deterministic and instant. Most programs need `MemoryLayer`
 * alone; this module is for several clients of one store, for what only an operator does, and for other limits.
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

/** Identifies the `MemoryStore` service. */
export const TypeId: TypeId = "~@effect-kv/memory/MemoryStore"

/** Identifies the `MemoryStore` service. */
export type TypeId = "~@effect-kv/memory/MemoryStore"

/** What is in a store. */
export interface Statistics {
  readonly revision: bigint
  /** Reads below this revision fail, and watches start after it; `0n` where nothing was compacted. */
  readonly compactRevision: bigint
  /** How many keys exist. */
  readonly keys: number
  /** How many writes, deletions too, the history holds. */
  readonly historyWrites: number
  /** The memory the history takes, in bytes: an estimate. */
  readonly historyBytes: number
  readonly leases: number
  readonly watches: number
  /** How many clients are connected. */
  readonly clients: number
}

/** A store in memory. */
export interface MemoryStore {
  readonly [TypeId]: TypeId

  /** Connects a client. When the scope closes, its calls and its watches fail with `Closed`; the store lives on. */
  readonly connect: Effect.Effect<KvBackend.KvBackend, never, Scope.Scope>

  /** The revision of the last write; the empty store is at 1. */
  readonly revision: Effect.Effect<bigint>

  /**
   * Forgets what no read at `revision` or later can see. Watches can start after `revision`.
   *
   * Fails with `Compacted` if that has been done already, and with `FutureRevision` if the revision has not happened.
   */
  readonly compact: (revision: bigint) => Effect.Effect<void, KvError.KvError>

  readonly statistics: Effect.Effect<Statistics>
}

/** The service tag. */
export const MemoryStore: Context.Service<MemoryStore, MemoryStore> = Context.Service<MemoryStore>(TypeId)

export type {
  /** How much history is kept. */
  HistoryOptions,
  /** Options of a store. */
  Options
}

/**
 * Makes a store that lives by the `Clock` of the environment.
 *
 * **Gotchas**
 *
 * A limit that is not a positive integer is a defect: options are part of the program.
 */
export const make = (options?: Options): Effect.Effect<MemoryStore> =>
  Effect.map(time.fromContext, (time) => fromStore(new Store(resolveOptions(options), time)))

/** Provides a fresh store. */
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
      const refused = store.compact(revision)
      return refused === undefined ? Effect.void : Effect.fail(refused)
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
