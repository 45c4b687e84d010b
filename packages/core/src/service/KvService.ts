/**
 * The interface of the `Kv` service and its tag. It is apart from the module `Kv`, so that the implementations of the
 * methods can import it without a cycle.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { type Internals, TypeId } from "../internal/kv/internals.ts"
import type { Entry, Value } from "../values/Entry.ts"
import type * as KeyRange from "../values/KeyRange.ts"
import type { KvError } from "../values/KvError.ts"
import type * as Op from "../values/Op.ts"
import type { Event, Revision, Status, Watcher, WatchRequest } from "../values/Watch.ts"

/**
 * Identifies a subscription.
 *
 * @since 0.1.0
 */
export const SubscriptionTypeId: SubscriptionTypeId = "~@effect-kv/core/Subscription"

/**
 * Identifies a subscription.
 *
 * @since 0.1.0
 */
export type SubscriptionTypeId = "~@effect-kv/core/Subscription"

/**
 * Options of a read: at a past revision, or serializable.
 *
 * @since 0.1.0
 */
export type ReadOptions = Pick<Op.RangeOptions, "revision" | "serializable">

/**
 * Options of {@link Kv.rangeStream}.
 *
 * @since 0.1.0
 */
export interface RangeStreamOptions extends Pick<Op.RangeOptions, "revision" | "serializable" | "keysOnly"> {
  /** How many entries are read at a time; a positive number. Default: 512. */
  readonly pageSize?: number | undefined
}

/**
 * Options of {@link Kv.compareAndSet} and {@link Kv.testAndSet}.
 *
 * @since 0.1.0
 */
export type SetOptions = Pick<Op.PutOptions, "lease">

/**
 * Options of {@link Kv.put}.
 *
 * @since 0.1.0
 */
export interface PutOptions extends Omit<Op.PutOptions, "lease"> {
  /**
   * The id of the lease that the key is attached to, another entry's `lease` as it is, or `"keep"` for the lease that
   * the key has at the moment of the write. Default: none, and a lease the key had before is detached.
   */
  readonly lease?: Op.PutOptions["lease"] | "keep"
}

/**
 * A transaction in progress: what the function of {@link Kv.atomically} reads and writes with.
 *
 * **Gotchas**
 *
 * It is valid only while the function runs. Afterwards its methods fail with `InvalidRequest`.
 *
 * @since 0.1.0
 */
export interface Transaction {
  /** The value of a key as text; `none` if the key does not exist. What the transaction wrote is visible to it. */
  readonly get: (key: string) => Effect.Effect<Option.Option<string>, KvError>
  /** The entry of a key. If the transaction wrote it, its `modRevision` is `0n`. */
  readonly getEntry: (key: string) => Effect.Effect<Option.Option<Entry>, KvError>
  /**
   * The entries of a range in the order of their keys. A key that another client creates, changes or deletes in the
   * range restarts the transaction. Each entry takes one of the transaction's 128 conditions.
   */
  readonly list: (range: KeyRange.KeyRange) => Effect.Effect<ReadonlyArray<Entry>, KvError>
  /** Writes a value when the transaction commits. The lease is that of {@link PutOptions}. */
  readonly put: (key: string, value: Value, options?: Pick<PutOptions, "lease">) => Effect.Effect<void, KvError>
  /** Deletes a key when the transaction commits. */
  readonly delete: (key: string) => Effect.Effect<void, KvError>
}

/**
 * Options of a watch.
 *
 * @since 0.1.0
 */
export interface WatchOptions extends Omit<WatchRequest, "range"> {
  /** Whether the watch ends after the revision of the first delete. Default: false, for every kind of watch. */
  readonly untilDelete?: boolean | undefined
  /**
   * The schedule by which a failed watch is opened again. It resumes from the revision after the last one it delivered,
   * so no event is lost or delivered twice. Default: never.
   *
   * **Details**
   *
   * It applies to failures that can pass: the store could not be reached in time, or rejected the client. `Compacted`
   * always ends the watch, because the history from which it must resume is gone. The schedule restarts after each
   * delivery.
   *
   * **Gotchas**
   *
   * `Stream.retry` around a watch is not the same: it opens another watch, from now or from `startRevision`.
   */
  readonly resume?: Schedule.Schedule<unknown, KvError> | undefined
}

/**
 * A watch that the store has confirmed.
 *
 * **Gotchas**
 *
 * Run either its `events` or its `revisions`, once. A second run fails with `InvalidRequest`, because the first one may
 * have taken events that it did not deliver.
 *
 * @since 0.1.0
 */
export interface Subscription {
  /** The underlying watcher: see `KvInternals.watcherOf` in `@effect-kv/core/backend`. */
  readonly [SubscriptionTypeId]: Watcher
  /** Every change after this revision is delivered. */
  readonly revision: bigint
  /** The events, one by one. Those of one revision arrive in one chunk. */
  readonly events: Stream.Stream<Event, KvError>
  /** The events of each revision together. */
  readonly revisions: Stream.Stream<Revision, KvError>
  /** The state of the watch now, then each change of it. */
  readonly status: Stream.Stream<Status>
}

/**
 * A key-value store.
 *
 * @since 0.1.0
 */
export interface Kv {
  /** The internals, opaque: see `KvInternals` in `@effect-kv/core/backend`. */
  readonly [TypeId]: Internals

  /**
   * The value of a key as text; `none` if the key does not exist.
   *
   * Fails with `InvalidRequest` if the value is not UTF-8: read it with `getEntry`.
   */
  readonly get: (key: string, options?: ReadOptions) => Effect.Effect<Option.Option<string>, KvError>

  /** The entry of a key: its value's bytes, revisions, version and lease; `none` if the key does not exist. */
  readonly getEntry: (key: string, options?: ReadOptions) => Effect.Effect<Option.Option<Entry>, KvError>

  /** The entries of a range, all at one revision. */
  readonly range: (range: KeyRange.KeyRange, options?: Op.RangeOptions) => Effect.Effect<Op.RangeResponse, KvError>

  /**
   * The entries of a range in the order of their keys, read page by page at one revision, in constant memory.
   *
   * Fails with `Compacted` if that revision is compacted during the read.
   */
  readonly rangeStream: (range: KeyRange.KeyRange, options?: RangeStreamOptions) => Stream.Stream<Entry, KvError>

  /** The number of keys in a range. */
  readonly count: (range: KeyRange.KeyRange, options?: ReadOptions) => Effect.Effect<number, KvError>

  /**
   * Writes a value. Putting the same value again is a write too: a new revision, and an event.
   *
   * Without `lease` the key is attached to no lease afterwards, even if it was before. A temporary key of this client
   * cannot be detached that way: that is an `InvalidRequest`. `lease: "keep"` keeps the key's lease, and
   * takes two requests.
   */
  readonly put: (key: string, value: Value, options?: PutOptions) => Effect.Effect<Op.PutResponse, KvError>

  /** Deletes one key. Deleting a missing key is a success with `deleted: 0`. */
  readonly delete: (key: string, options?: Op.DeleteOptions) => Effect.Effect<Op.DeleteResponse, KvError>

  /** Deletes the keys of a range. Deleting nothing is a success with `deleted: 0`. */
  readonly deleteRange: (
    range: KeyRange.KeyRange,
    options?: Op.DeleteOptions
  ) => Effect.Effect<Op.DeleteResponse, KvError>

  /**
   * Executes `then` if all conditions of `if` hold, otherwise `else`: atomically, at one revision. The types of the
   * responses follow from the operations.
   */
  readonly txn: <
    const Then extends ReadonlyArray<Op.Op> = readonly [],
    const Else extends ReadonlyArray<Op.Op> = readonly []
  >(input: Op.TxnInput<Then, Else>) => Effect.Effect<Op.TxnResponse<Then, Else>, KvError>

  /**
   * Writes the value if the key has the expected value; `none` expects that the key does not exist. Returns whether it
   * wrote.
   *
   * A missing key never equals a value. Without `lease` the key is attached to no lease afterwards.
   */
  readonly testAndSet: (
    key: string,
    expected: Option.Option<Value>,
    value: Value,
    options?: SetOptions
  ) => Effect.Effect<boolean, KvError>

  /**
   * Writes the value if the key was last written at the revision; `0n` expects that the key does not exist.
   *
   * Returns the revision of the write, which is the key's new `modRevision`; `none` if it did not write.
   */
  readonly compareAndSet: (
    key: string,
    modRevision: bigint,
    value: Value,
    options?: SetOptions
  ) => Effect.Effect<Option.Option<bigint>, KvError>

  /**
   * Replaces a key's text with the result of `f`, which gets the current text (`none` for a missing key), and returns the
   * new text. If another write intervenes, calls `f` again with the newer text. The key keeps its lease.
   *
   * **Details**
   *
   * Concurrent modifies of one key through one client run one at a time, in order, each in its own fiber. A queued
   * modify fails with `DeadlineExceeded` if no earlier one succeeds for as long as its `Deadline` (default: 5 seconds).
   * Then it has changed nothing. After two conflicts, other writes of the client to the key wait for two more attempts, at
   * most for a second.
   *
   * **Gotchas**
   *
   * An `Indeterminate` write is not repeated: the caller must find out whether it was applied.
   */
  readonly modify: (key: string, f: (current: Option.Option<string>) => string) => Effect.Effect<string, KvError>

  /**
   * As `modify`, but leaves the key as it is if `f` returns `none`. Returns the text that it wrote, if any.
   */
  readonly modifySome: (
    key: string,
    f: (current: Option.Option<string>) => Option.Option<string>
  ) => Effect.Effect<Option.Option<string>, KvError>

  /**
   * Reads and writes several keys as one: runs `f`, then applies all its writes in one transaction, on the condition
   * that nothing it read has changed. If something has, runs `f` again.
   *
   * **Details**
   *
   * All reads of a run show the store at one revision. Nothing is written if `f` fails, or if it writes nothing. Runs are
   * repeated until the `Deadline` (default: 5 seconds) has passed; then the call fails with `DeadlineExceeded`, and has
   * changed nothing. Transactions of one client that had a conflict run one at a time.
   * After two conflicts, other writes of the client to what was read wait for two more runs, at most for a second.
   *
   * **Gotchas**
   *
   * `f` may run several times, so it must have no effects except through its argument. An `Indeterminate` commit is not
   * repeated: the caller must find out whether it was applied.
   */
  readonly atomically: <A, E, R>(
    f: (transaction: Transaction) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | KvError, R>

  /**
   * The changes of the keys of a range (`KeyRange.key` for one key): in order, complete and without duplicates, across
   * reconnects and restarts of servers.
   *
   * Fails with `Compacted` if history it needs is gone; the reason has the revision to restart from. A slow reader
   * delays only itself.
   */
  readonly watch: (range: KeyRange.KeyRange, options?: WatchOptions) => Stream.Stream<Event, KvError>

  /** As `watch`, with the events of one revision together as one element. */
  readonly watchRevisions: (
    range: KeyRange.KeyRange,
    options?: WatchOptions
  ) => Stream.Stream<Revision, KvError>

  /** As `watch`, but returns once the store has confirmed the watch: every change after that is delivered. */
  readonly subscribe: (
    range: KeyRange.KeyRange,
    options?: WatchOptions
  ) => Effect.Effect<Subscription, KvError, Scope.Scope>

  /** Waits for the next change of a key. */
  readonly waitForChange: (
    key: string,
    options?: Pick<WatchOptions, "startRevision" | "previous" | "only">
  ) => Effect.Effect<Event, KvError>

  /**
   * Calls `f` with each event until `f` returns `false` or the scope closes; with `untilDelete`, also until a watched
   * key is deleted.
   *
   * Returns once the store has confirmed the watch, with the fiber that ends when the watch does.
   */
  readonly watchWith: <E, R>(
    range: KeyRange.KeyRange,
    f: (event: Event) => Effect.Effect<boolean | void, E, R>,
    options?: WatchOptions
  ) => Effect.Effect<Fiber.Fiber<void, KvError | E>, KvError, R | Scope.Scope>

  /**
   * The entries of a range at one revision, and every later change: nothing between them is missed or delivered twice.
   */
  readonly snapshotAndWatch: (
    range: KeyRange.KeyRange,
    options?: Omit<WatchOptions, "startRevision">
  ) => Effect.Effect<Subscription & { readonly entries: ReadonlyArray<Entry> }, KvError, Scope.Scope>
}

/**
 * The service tag of the key-value store.
 *
 * @since 0.1.0
 */
export const Kv: Context.Service<Kv, Kv> = Context.Service<Kv>(TypeId)
