/**
 * Collections as values: the types that the `KvCollection` module and its implementation share.
 */
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { PutOptions, WatchOptions } from "../../service/KvService.ts"
import type { KvError } from "../../values/KvError.ts"
import type { DecodeError, EncodeError } from "./collectionErrors.ts"

/**
 * A key of a collection with its value, at one revision.
 *
 * **Gotchas**
 *
 * Printing an item does not show its value, which may be a secret.
 *
 * @since 0.1.0
 */
export interface Item<out K, out V> {
  readonly key: K
  readonly value: V
  /** The revision of the last write to the key. */
  readonly revision: bigint
  /** The revision of the write that created the key. */
  readonly createRevision: bigint
  /** The lease that the key is attached to. */
  readonly lease: Option.Option<bigint>
}

/**
 * A change of a collection. What does not decode is a failed `Result`, and ends nothing.
 *
 * @since 0.1.0
 */
export type Change<K, V> =
  | {
    readonly _tag: "Put"
    readonly revision: bigint
    readonly item: Result.Result<Item<K, V>, DecodeError>
  }
  | {
    readonly _tag: "Delete"
    readonly revision: bigint
    readonly key: Result.Result<K, DecodeError>
  }

/**
 * The items of a collection at one revision, in no particular order. What does not decode is a failed `Result`.
 *
 * @since 0.1.0
 */
export interface Snapshot<K, V> {
  readonly revision: bigint
  readonly items: ReadonlyArray<Result.Result<Item<K, V>, DecodeError>>
}

/**
 * A current copy of a collection in memory: see `RangeView`.
 *
 * @since 0.1.0
 */
export interface View<K, V> {
  /** The value of a key; `none` if it does not exist. */
  readonly get: (key: K) => Effect.Effect<Option.Option<V>, KvError | DecodeError | EncodeError>
  /** All items, at one revision. */
  readonly snapshot: Effect.Effect<Snapshot<K, V>, KvError>
  /** The snapshot now, then one after each change. A slow reader skips to the newest. */
  readonly changes: Stream.Stream<Snapshot<K, V>, KvError>
  /** The first snapshot, from the current one on, for which the predicate holds. */
  readonly waitUntil: (predicate: (snapshot: Snapshot<K, V>) => boolean) => Effect.Effect<Snapshot<K, V>, KvError>
}

/**
 * A collection: the keys under a prefix, each with a value.
 *
 * @since 0.1.0
 */
export interface KvCollection<K, V> {
  /** The prefix of its keys. */
  readonly prefix: string

  /** The value of a key; `none` if it does not exist. */
  readonly get: (key: K) => Effect.Effect<Option.Option<V>, KvError | DecodeError | EncodeError>

  /** As `get`, with the revisions and the lease of the key. */
  readonly getItem: (key: K) => Effect.Effect<Option.Option<Item<K, V>>, KvError | DecodeError | EncodeError>

  /** Writes a value, and returns the revision of the write. The lease is that of `Kv.put`. */
  readonly put: (
    key: K,
    value: V,
    options?: Pick<PutOptions, "lease">
  ) => Effect.Effect<bigint, KvError | EncodeError>

  /**
   * Replaces the value of a key with the result of `f`, and returns it. If another write intervenes, calls `f` again with
   * the newer value. The key keeps its lease.
   *
   * **Details**
   *
   * As `Kv.modify`. If the value does not decode, it fails with `DecodeError` and changes nothing: repair it with `put`.
   */
  readonly update: (
    key: K,
    f: (current: Option.Option<V>) => V
  ) => Effect.Effect<V, KvError | DecodeError | EncodeError>

  /** As `update`, but leaves the key as it is if `f` returns `none`. Returns the value that it wrote, if any. */
  readonly updateSome: (
    key: K,
    f: (current: Option.Option<V>) => Option.Option<V>
  ) => Effect.Effect<Option.Option<V>, KvError | DecodeError | EncodeError>

  /** Deletes a key. Returns whether it existed. */
  readonly delete: (key: K) => Effect.Effect<boolean, KvError | EncodeError>

  /** All items at one revision, in the order of their keys in the store. What does not decode is a failed `Result`. */
  readonly list: Effect.Effect<ReadonlyArray<Result.Result<Item<K, V>, DecodeError>>, KvError>

  /** The changes of the collection: as `Kv.watch`, in order and complete. */
  readonly watch: (
    options?: Pick<WatchOptions, "startRevision" | "resume">
  ) => Stream.Stream<Change<K, V>, KvError>

  /** A current copy of the collection in memory, until the scope closes. */
  readonly view: Effect.Effect<View<K, V>, KvError, Scope.Scope>
}
