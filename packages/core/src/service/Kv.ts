/**
 * The key-value service that applications use.
 *
 * A backend's layer provides it (`EtcdLayer.layer`, `MemoryLayer.layer`). A program behaves the same on every backend,
 * because everything here is derived from the six functions of a `KvBackend`.
 *
 * Data and watches are methods of `Kv`, and each method is also a function of this module that takes `Kv` from the
 * environment. Recipes (`Lease`, `Session`, `TempKey`, `DistLock`, `RangeView`) are modules of their own.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { KvBackend } from "../backend/KvBackend.ts"
import * as Namespace from "../backend/Namespace.ts"
import * as guard from "../internal/kv/guard.ts"
import * as heldKeys from "../internal/kv/heldKeys.ts"
import { type Internals, TypeId } from "../internal/kv/internals.ts"
import * as internals from "../internal/kv/internals.ts"
import * as kvService from "../internal/kv/makeKv.ts"
import * as reservations from "../internal/kv/reservations.ts"
import * as sessionPool from "../internal/session/sessionPool.ts"
import * as namespace from "../internal/tracing/namespace.ts"
import type { Entry, Value } from "../values/Entry.ts"
import type * as KeyRange from "../values/KeyRange.ts"
import type { KvError } from "../values/KvError.ts"
import type * as Op from "../values/Op.ts"
import type { Event, Revision } from "../values/Watch.ts"
import {
  Kv,
  type PutOptions,
  type RangeStreamOptions,
  type ReadOptions,
  type SetOptions,
  type Subscription,
  SubscriptionTypeId,
  type Transaction,
  type WatchOptions
} from "./KvService.ts"

export { Kv, SubscriptionTypeId, TypeId }

export type {
  Internals,
  PutOptions,
  RangeStreamOptions,
  ReadOptions,
  SetOptions,
  Subscription,
  Transaction,
  WatchOptions
}

/**
 * Options of a `Kv` that is made from a backend.
 *
 * @since 0.1.0
 */
export interface MakeOptions {
  /**
   * The names of the store's active alarms, such as `NOSPACE`, for `KvHealth.check`. If any member of the
   * store responds, it should succeed even without a quorum, and if need be with the alarms that are known. Default: the
   * store has no alarms.
   */
  readonly alarms?: Effect.Effect<ReadonlyArray<string>, KvError> | undefined
}

/**
 * Makes the service from a backend. Its sessions end at the latest with the scope.
 *
 * **Details**
 *
 * Each call makes a client of its own. A lock fences the writes of the client that acquired it, in all namespaces. It
 * does not fence the writes of another client of the same store: use `DistLock.fence` for those.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const kv = yield* Effect.flatMap(store.connect, Kv.make)
 *   yield* kv.put("config/limit", "10")
 *   yield* kv.get("config/limit") // => Option.some("10")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = (backend: KvBackend, options?: MakeOptions): Effect.Effect<Kv, never, Scope.Scope> => {
  const client = {}
  const raw = guard.root(heldKeys.guarded(reservations.gated(backend, client)))
  return Effect.map(
    sessionPool.make(guard.unfenced(raw)),
    (sessions) => kvService.make({ client, prefix: "", fences: [], raw, alarms: options?.alarms }, sessions)
  )
}

/**
 * Provides `Kv` from an effect that makes a backend.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const Live = Kv.layer(Effect.flatMap(MemoryStore.make(), (store) => store.connect))
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   yield* Kv.get("config/limit") // => Option.some("10")
 * }).pipe(Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 */
export const layer = <E, R>(
  backend: Effect.Effect<KvBackend, E, R>
): Layer.Layer<Kv, E, Exclude<R, Scope.Scope>> => Layer.effect(Kv, Effect.flatMap(backend, (backend) => make(backend)))

/**
 * Applies a wrapper of backends to a `Kv`, such as one of your own.
 *
 * **Details**
 *
 * The wrapper is called once. It sees a fenced write as a transaction. Locks and temporary keys go through it too, but
 * their sessions do not: they are shared with the original `Kv`.
 *
 * **Gotchas**
 *
 * The wrapper must not change keys: use {@link prefixed} for a namespace. If it does, the condition of a fenced write
 * compares another key, and every write under a lock is rejected.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import type { KvBackend } from "@effect-kv/core/backend"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const operations: Array<string> = []
 *   const kv = Kv.mapBackend(yield* Kv.Kv, (backend): KvBackend.KvBackend => ({
 *     ...backend,
 *     execute: (op) => {
 *       operations.push(op._tag)
 *       return backend.execute(op)
 *     }
 *   }))
 *   yield* kv.put("a", "1")
 *   yield* kv.get("a")
 *   const seen = operations // => ["Put", "Range"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const mapBackend: {
  (f: (backend: KvBackend) => KvBackend): (self: Kv) => Kv
  (self: Kv, f: (backend: KvBackend) => KvBackend): Kv
} = dual(
  2,
  (self: Kv, f: (backend: KvBackend) => KvBackend): Kv => {
    const { origin, sessions } = internals.of(self)
    return kvService.make({ ...origin, raw: f(origin.raw) }, sessions)
  }
)

/**
 * Narrows a `Kv` to the keys with a prefix.
 *
 * **Details**
 *
 * The prefix is added to keys in requests and removed from keys in responses. No range reaches outside, whatever its
 * bounds. Revisions and lease ids are those of the whole store.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const app = Kv.prefixed(kv, "app/")
 *   yield* app.put("limit", "10")
 *   yield* kv.get("app/limit") // => Option.some("10")
 *   yield* app.count(KeyRange.all) // => 1
 * })
 * ```
 *
 * @since 0.1.0
 */
export const prefixed: {
  (prefix: string): (self: Kv) => Kv
  (self: Kv, prefix: string): Kv
} = dual(
  2,
  (self: Kv, prefix: string): Kv => {
    const { origin, sessions } = internals.of(self)
    return kvService.make(
      {
        ...origin,
        prefix: origin.prefix + prefix,
        raw: namespace.named(prefix)(Namespace.prefixed(prefix)(origin.raw))
      },
      sessions
    )
  }
)

/**
 * Narrows the `Kv` of a program to the keys with a prefix.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("limit", "10").pipe(Effect.provide(Kv.layerPrefixed("app/")))
 *   yield* Kv.get("app/limit") // => Option.some("10")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const layerPrefixed = (prefix: string): Layer.Layer<Kv, never, Kv> =>
  Layer.effect(Kv, Effect.map(Kv, prefixed(prefix)))

/**
 * `kv.get` of the `Kv` in the environment: the value of a key as text.
 *
 * Fails with `InvalidRequest` if the value is not UTF-8: read it with {@link getEntry}.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   yield* Kv.get("config/limit") // => Option.some("10")
 *   yield* Kv.get("config/missing") // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
export const get = (key: string, options?: ReadOptions): Effect.Effect<Option.Option<string>, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.get(key, options))

/**
 * `kv.getEntry` of the `Kv` in the environment: a key's value as bytes, with its revisions, version and lease.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("a", new Uint8Array([0xff]))
 *   const entry = Option.getOrThrow(yield* Kv.getEntry("a"))
 *   entry.value // => new Uint8Array([0xff])
 *   entry.version // => 1
 * })
 * ```
 *
 * @since 0.1.0
 */
export const getEntry = (key: string, options?: ReadOptions): Effect.Effect<Option.Option<Entry>, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.getEntry(key, options))

/**
 * `kv.range` of the `Kv` in the environment: the entries of a range, all at one revision.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   for (const key of ["a", "b", "c"]) yield* Kv.put(key, key)
 *   const page = yield* Kv.range(KeyRange.all, { limit: 2 })
 *   const keys = page.entries.map((entry) => entry.key) // => ["a", "b"]
 *   const rest = [page.more, page.count] // => [true, 3]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const range = (
  range: KeyRange.KeyRange,
  options?: Op.RangeOptions
): Effect.Effect<Op.RangeResponse, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.range(range, options))

/**
 * `kv.rangeStream` of the `Kv` in the environment: the entries of a range of any size, read page by page at one
 * revision.
 *
 * Fails with `Compacted` if that revision is compacted during the read.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   for (const key of ["a", "b", "c"]) yield* Kv.put(key, key)
 *   const keys = yield* Kv.rangeStream(KeyRange.all, { pageSize: 2 }).pipe(
 *     Stream.map((entry) => entry.key),
 *     Stream.runCollect
 *   ) // => ["a", "b", "c"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const rangeStream = (
  range: KeyRange.KeyRange,
  options?: RangeStreamOptions
): Stream.Stream<Entry, KvError, Kv> => Stream.unwrap(Effect.map(Kv, (kv) => kv.rangeStream(range, options)))

/**
 * `kv.count` of the `Kv` in the environment: the number of keys in a range.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("jobs/1", "new")
 *   yield* Kv.put("jobs/2", "new")
 *   yield* Kv.count(KeyRange.prefix("jobs/")) // => 2
 * })
 * ```
 *
 * @since 0.1.0
 */
export const count = (range: KeyRange.KeyRange, options?: ReadOptions): Effect.Effect<number, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.count(range, options))

/**
 * `kv.put` of the `Kv` in the environment: writes a value.
 *
 * Without `lease` the key is attached to no lease afterwards, even if it was before. `lease: "keep"` keeps its lease.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("config/limit", "10")
 *   const { previous } = yield* Kv.put("config/limit", "20", { previous: true })
 *   const version = Option.map(previous, (entry) => entry.version) // => Option.some(1)
 * })
 * ```
 *
 * @since 0.1.0
 */
export const put = (
  key: string,
  value: Value,
  options?: PutOptions
): Effect.Effect<Op.PutResponse, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.put(key, value, options))

/**
 * `kv.delete` of the `Kv` in the environment: deletes one key. Deleting a missing key is a success.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("a", "1")
 *   const { deleted } = yield* Kv.delete("a")
 *   const { deleted: again } = yield* Kv.delete("a")
 *   const counts = [deleted, again] // => [1, 0]
 * })
 * ```
 *
 * @since 0.1.0
 */
const delete_ = (key: string, options?: Op.DeleteOptions): Effect.Effect<Op.DeleteResponse, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.delete(key, options))

export { delete_ as delete }

/**
 * `kv.deleteRange` of the `Kv` in the environment: deletes the keys of a range.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("jobs/1", "new")
 *   yield* Kv.put("jobs/2", "new")
 *   const { deleted } = yield* Kv.deleteRange(KeyRange.prefix("jobs/"))
 *   const count = deleted // => 2
 * })
 * ```
 *
 * @since 0.1.0
 */
export const deleteRange = (
  range: KeyRange.KeyRange,
  options?: Op.DeleteOptions
): Effect.Effect<Op.DeleteResponse, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.deleteRange(range, options))

/**
 * `kv.txn` of the `Kv` in the environment: executes `then` if all conditions hold, else `else`, atomically.
 *
 * @example
 * ```ts
 * import { Compare, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const result = yield* Kv.txn({
 *     if: [Compare.missing("owner")],
 *     then: [Op.put("owner", "me"), Op.put("since", "today")],
 *     else: [Op.get("owner")]
 *   })
 *   const written = result.succeeded // => true
 *   yield* Kv.get("since") // => Option.some("today")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const txn = <
  const Then extends ReadonlyArray<Op.Op> = readonly [],
  const Else extends ReadonlyArray<Op.Op> = readonly []
>(input: Op.TxnInput<Then, Else>): Effect.Effect<Op.TxnResponse<Then, Else>, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.txn(input))

/**
 * `kv.testAndSet` of the `Kv` in the environment: writes a value if the key has the expected one.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.testAndSet("owner", Option.none(), "a") // => true
 *   yield* Kv.testAndSet("owner", Option.none(), "b") // => false
 *   yield* Kv.testAndSet("owner", Option.some("a"), "b") // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const testAndSet = (
  key: string,
  expected: Option.Option<Value>,
  value: Value,
  options?: SetOptions
): Effect.Effect<boolean, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.testAndSet(key, expected, value, options))

/**
 * `kv.compareAndSet` of the `Kv` in the environment: writes a value if the key was last written at the revision.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const created = Option.getOrThrow(yield* Kv.compareAndSet("a", 0n, "1"))
 *   yield* Kv.compareAndSet("a", created, "2")
 *   yield* Kv.compareAndSet("a", created, "3") // => Option.none()
 *   yield* Kv.get("a") // => Option.some("2")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const compareAndSet = (
  key: string,
  modRevision: bigint,
  value: Value,
  options?: SetOptions
): Effect.Effect<Option.Option<bigint>, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.compareAndSet(key, modRevision, value, options))

/**
 * `kv.modify` of the `Kv` in the environment: replaces a key's text with the result of a function.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const increment = Kv.modify("count", (current) => `${Number(Option.getOrElse(current, () => "0")) + 1}`)
 *
 * const program = Effect.gen(function*() {
 *   yield* Effect.all([increment, increment, increment], { concurrency: "unbounded" })
 *   yield* Kv.get("count") // => Option.some("3")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const modify = (
  key: string,
  f: (current: Option.Option<string>) => string
): Effect.Effect<string, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.modify(key, f))

/**
 * `kv.modifySome` of the `Kv` in the environment: replaces a key's text, unless the function declines with `none`.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const takeOne = Kv.modifySome("stock", (current) =>
 *   Option.map(Option.filter(current, (n) => Number(n) > 0), (n) => `${Number(n) - 1}`))
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("stock", "1")
 *   yield* takeOne // => Option.some("0")
 *   yield* takeOne // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
export const modifySome = (
  key: string,
  f: (current: Option.Option<string>) => Option.Option<string>
): Effect.Effect<Option.Option<string>, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.modifySome(key, f))

/**
 * `kv.atomically` of the `Kv` in the environment: reads and writes several keys as one.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const balance = Option.match({ onNone: () => 0, onSome: Number })
 *
 * const transfer = (from: string, to: string, amount: number) =>
 *   Kv.atomically(Effect.fnUntraced(function*(t) {
 *     const available = balance(yield* t.get(from))
 *     if (available < amount) return false
 *     yield* t.put(from, `${available - amount}`)
 *     yield* t.put(to, `${balance(yield* t.get(to)) + amount}`)
 *     return true
 *   }))
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("ada", "100")
 *   yield* transfer("ada", "bert", 70) // => true
 *   yield* transfer("ada", "bert", 70) // => false
 *   yield* Kv.get("bert") // => Option.some("70")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const atomically = <A, E, R>(
  f: (transaction: Transaction) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | KvError, R | Kv> => Effect.flatMap(Kv, (kv) => kv.atomically(f))

/**
 * `kv.watch` of the `Kv` in the environment: the changes of the keys of a range, in order, complete and without
 * repetition.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { revision } = yield* Kv.put("jobs/1", "new")
 *   yield* Kv.delete("jobs/1")
 *   const tags = yield* Kv.watch(KeyRange.prefix("jobs/"), { startRevision: revision, untilDelete: true }).pipe(
 *     Stream.map((event) => event._tag),
 *     Stream.runCollect
 *   ) // => ["Put", "Delete"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const watch = (
  range: KeyRange.KeyRange,
  options?: WatchOptions
): Stream.Stream<Event, KvError, Kv> => Stream.unwrap(Effect.map(Kv, (kv) => kv.watch(range, options)))

/**
 * `kv.watchRevisions` of the `Kv` in the environment: the changes of a range, grouped by revision.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv, Op } from "@effect-kv/core"
 * import { Effect, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { revision } = yield* Kv.txn({ then: [Op.put("jobs/1", "new"), Op.put("jobs/2", "new")] })
 *   const keys = yield* Kv.watchRevisions(KeyRange.prefix("jobs/"), { startRevision: revision }).pipe(
 *     Stream.map(({ events }) => events.map((event) => event.key)),
 *     Stream.take(1),
 *     Stream.runCollect
 *   ) // => [["jobs/1", "jobs/2"]]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const watchRevisions = (
  range: KeyRange.KeyRange,
  options?: WatchOptions
): Stream.Stream<Revision, KvError, Kv> => Stream.unwrap(Effect.map(Kv, (kv) => kv.watchRevisions(range, options)))

/**
 * `kv.watchWith` of the `Kv` in the environment: calls a function with each event until it returns `false`.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect, Fiber } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const seen: Array<string> = []
 *   const fiber = yield* Kv.watchWith(KeyRange.prefix("jobs/"), (event) =>
 *     Effect.sync(() => seen.push(event.key) < 2))
 *   yield* Kv.put("jobs/1", "new")
 *   yield* Kv.put("jobs/2", "new")
 *   yield* Fiber.join(fiber)
 *   const keys = seen // => ["jobs/1", "jobs/2"]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const watchWith = <E, R>(
  range: KeyRange.KeyRange,
  f: (event: Event) => Effect.Effect<boolean | void, E, R>,
  options?: WatchOptions
): Effect.Effect<Fiber.Fiber<void, KvError | E>, KvError, Kv | R | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => kv.watchWith(range, f, options))

/**
 * `kv.snapshotAndWatch` of the `Kv` in the environment: the entries of a range, and every later change.
 *
 * **When to use**
 *
 * To keep a copy of a range. `RangeView` does so, and recovers from compaction.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("jobs/1", "new")
 *   const { entries, events } = yield* Kv.snapshotAndWatch(KeyRange.prefix("jobs/"))
 *   yield* Kv.put("jobs/2", "new")
 *   const before = entries.map((entry) => entry.key) // => ["jobs/1"]
 *   const after = yield* events.pipe(Stream.map((event) => event.key), Stream.take(1), Stream.runCollect) // => ["jobs/2"]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const snapshotAndWatch = (
  range: KeyRange.KeyRange,
  options?: Omit<WatchOptions, "startRevision">
): Effect.Effect<Subscription & { readonly entries: ReadonlyArray<Entry> }, KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => kv.snapshotAndWatch(range, options))

/**
 * `kv.subscribe` of the `Kv` in the environment: a watch that the store has confirmed.
 *
 * **When to use**
 *
 * If the program must not miss what happens after this point, such as the effect of a request that it makes next.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { events } = yield* Kv.subscribe(KeyRange.key("jobs/1"))
 *   yield* Kv.put("jobs/1", "new")
 *   const tags = yield* events.pipe(Stream.map((event) => event._tag), Stream.take(1), Stream.runCollect) // => ["Put"]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const subscribe = (
  range: KeyRange.KeyRange,
  options?: WatchOptions
): Effect.Effect<Subscription, KvError, Kv | Scope.Scope> => Effect.flatMap(Kv, (kv) => kv.subscribe(range, options))

/**
 * `kv.waitForChange` of the `Kv` in the environment: waits for the next change of a key.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { revision } = yield* Kv.put("ready", "no")
 *   yield* Effect.forkChild(Kv.put("ready", "yes"))
 *   const event = yield* Kv.waitForChange("ready", { startRevision: revision + 1n })
 *   event._tag // => "Put"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const waitForChange = (
  key: string,
  options?: Pick<WatchOptions, "startRevision" | "previous" | "only">
): Effect.Effect<Event, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.waitForChange(key, options))
