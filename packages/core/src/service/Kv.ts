/**
 * The key-value service that applications use.
 *
 * `Kv` is provided by a backend's layer (`EtcdLayer.layer`, `MemoryLayer.layer`); a program that uses it does the same
 * on each. Everything here is derived from the six functions of a `KvBackend`.
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
import * as sessionPool from "../internal/session/sessionPool.ts"
import type { Entry, Value } from "../values/Entry.ts"
import type * as KeyRange from "../values/KeyRange.ts"
import type { KvError } from "../values/KvError.ts"
import type * as Op from "../values/Op.ts"
import type { Event, Revision } from "../values/Watch.ts"
import {
  Kv,
  type RangeStreamOptions,
  type ReadOptions,
  type SetOptions,
  type Subscription,
  SubscriptionTypeId,
  type WatchOptions
} from "./KvService.ts"

export {
  /** The service tag, and the interface of a key-value store. */
  Kv,
  /** Identifies a subscription. */
  SubscriptionTypeId,
  /** Identifies the `Kv` service. */
  TypeId
}

export type {
  /** What a `Kv` is made of, opaque. */
  Internals,
  /** Options of {@link Kv.rangeStream}. */
  RangeStreamOptions,
  /** How a read is made: at a past revision, or serializable. */
  ReadOptions,
  /** Options of {@link Kv.compareAndSet} and {@link Kv.testAndSet}. */
  SetOptions,
  /** A watch that the store has confirmed. */
  Subscription,
  /** Options of a watch. */
  WatchOptions
}

/**
 * Makes the service from a backend. Its sessions end with the scope, at the latest.
 *
 * **Details**
 *
 * Each call makes a client of its own. A lock fences the writes of the client it was acquired with, in all namespaces, and
 * not those of another client of the same store: for that there is `DistLock.fence`.
 */
export const make = (backend: KvBackend): Effect.Effect<Kv, never, Scope.Scope> => {
  const raw = guard.root(heldKeys.guarded(backend))
  return Effect.map(
    sessionPool.make(guard.unfenced(raw)),
    (sessions) => kvService.make({ client: {}, prefix: "", fences: [], raw }, sessions)
  )
}

/** Provides `Kv` from a backend that takes a scope, an environment or an effect to make. */
export const layer = <E, R>(
  backend: Effect.Effect<KvBackend, E, R>
): Layer.Layer<Kv, E, Exclude<R, Scope.Scope>> => Layer.effect(Kv, Effect.flatMap(backend, make))

/**
 * The same store seen through a function of backends, such as one of your own. Locks and temporary keys go through it too;
 * the sessions they stand on are shared with the `Kv` it is made from, and do not.
 *
 * **Details**
 *
 * The function sees a fenced write as the transaction it is. It is called once.
 *
 * **Gotchas**
 *
 * It must leave keys as they are: use {@link prefixed} for a namespace. If it changes them, the condition of a fenced write
 * is about another key, and every write under a lock is rejected.
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
 * Narrows a `Kv` to the keys with a prefix. Keys go in and come out without it, everywhere, and no range reaches
 * outside, whatever its bounds.
 */
export const prefixed: {
  (prefix: string): (self: Kv) => Kv
  (self: Kv, prefix: string): Kv
} = dual(
  2,
  (self: Kv, prefix: string): Kv => {
    const { origin, sessions } = internals.of(self)
    return kvService.make(
      { ...origin, prefix: origin.prefix + prefix, raw: Namespace.prefixed(prefix)(origin.raw) },
      sessions
    )
  }
)

/** Narrows the `Kv` of a program to the keys with a prefix: `program.pipe(Effect.provide(Kv.layerPrefixed("app/")))`. */
export const layerPrefixed = (prefix: string): Layer.Layer<Kv, never, Kv> =>
  Layer.effect(Kv, Effect.map(Kv, prefixed(prefix)))

/** See {@link Kv.get}. */
export const get = (key: string, options?: ReadOptions): Effect.Effect<Option.Option<string>, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.get(key, options))

/** See {@link Kv.getEntry}. */
export const getEntry = (key: string, options?: ReadOptions): Effect.Effect<Option.Option<Entry>, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.getEntry(key, options))

/** See {@link Kv.range}. */
export const range = (
  range: KeyRange.KeyRange,
  options?: Op.RangeOptions
): Effect.Effect<Op.RangeResponse, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.range(range, options))

/** See {@link Kv.rangeStream}. */
export const rangeStream = (
  range: KeyRange.KeyRange,
  options?: RangeStreamOptions
): Stream.Stream<Entry, KvError, Kv> => Stream.unwrap(Effect.map(Kv, (kv) => kv.rangeStream(range, options)))

/** See {@link Kv.count}. */
export const count = (range: KeyRange.KeyRange, options?: ReadOptions): Effect.Effect<number, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.count(range, options))

/** See {@link Kv.put}. */
export const put = (
  key: string,
  value: Value,
  options?: Op.PutOptions
): Effect.Effect<Op.PutResponse, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.put(key, value, options))

const delete_ = (key: string, options?: Op.DeleteOptions): Effect.Effect<Op.DeleteResponse, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.delete(key, options))

export {
  /** See {@link Kv.delete}. */
  delete_ as delete
}

/** See {@link Kv.deleteRange}. */
export const deleteRange = (
  range: KeyRange.KeyRange,
  options?: Op.DeleteOptions
): Effect.Effect<Op.DeleteResponse, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.deleteRange(range, options))

/** See {@link Kv.txn}. */
export const txn = <
  const Then extends ReadonlyArray<Op.Op> = readonly [],
  const Else extends ReadonlyArray<Op.Op> = readonly []
>(input: Op.TxnInput<Then, Else>): Effect.Effect<Op.TxnResponse<Then, Else>, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.txn(input))

/** See {@link Kv.testAndSet}. */
export const testAndSet = (
  key: string,
  expected: Option.Option<Value>,
  value: Value,
  options?: SetOptions
): Effect.Effect<boolean, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.testAndSet(key, expected, value, options))

/** See {@link Kv.compareAndSet}. */
export const compareAndSet = (
  key: string,
  modRevision: bigint,
  value: Value,
  options?: SetOptions
): Effect.Effect<Option.Option<bigint>, KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => kv.compareAndSet(key, modRevision, value, options))

/** See {@link Kv.modify}. */
export const modify = (
  key: string,
  f: (current: Option.Option<string>) => string
): Effect.Effect<string, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.modify(key, f))

/** See {@link Kv.watch}. */
export const watch = (
  range: KeyRange.KeyRange,
  options?: WatchOptions
): Stream.Stream<Event, KvError, Kv> => Stream.unwrap(Effect.map(Kv, (kv) => kv.watch(range, options)))

/** See {@link Kv.watchRevisions}. */
export const watchRevisions = (
  range: KeyRange.KeyRange,
  options?: WatchOptions
): Stream.Stream<Revision, KvError, Kv> => Stream.unwrap(Effect.map(Kv, (kv) => kv.watchRevisions(range, options)))

/** See {@link Kv.watchWith}. */
export const watchWith = <E, R>(
  range: KeyRange.KeyRange,
  f: (event: Event) => Effect.Effect<boolean | void, E, R>,
  options?: WatchOptions
): Effect.Effect<Fiber.Fiber<void, KvError | E>, KvError, Kv | R | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => kv.watchWith(range, f, options))

/** See {@link Kv.snapshotAndWatch}. */
export const snapshotAndWatch = (
  range: KeyRange.KeyRange,
  options?: Omit<WatchOptions, "startRevision">
): Effect.Effect<Subscription & { readonly entries: ReadonlyArray<Entry> }, KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => kv.snapshotAndWatch(range, options))

/** See {@link Kv.subscribe}. */
export const subscribe = (
  range: KeyRange.KeyRange,
  options?: WatchOptions
): Effect.Effect<Subscription, KvError, Kv | Scope.Scope> => Effect.flatMap(Kv, (kv) => kv.subscribe(range, options))

/** See {@link Kv.waitForChange}. */
export const waitForChange = (
  key: string,
  options?: Pick<WatchOptions, "startRevision" | "previous" | "only">
): Effect.Effect<Event, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.waitForChange(key, options))
