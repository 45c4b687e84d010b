/**
 * The key-value service that applications use.
 *
 * `Kv` is provided by a backend's layer (`EtcdLayer.layer`, `MemoryLayer.layer`); a program that uses it does the same
 * on each. Everything here is derived from the six functions of a `KvBackend`. The functions of this module are the
 * service's methods with `Kv` taken from the environment.
 */
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { KvBackend } from "../backend/KvBackend.ts"
import * as Namespace from "../backend/Namespace.ts"
import * as guard from "../internal/kv/guard.ts"
import * as heldKeys from "../internal/kv/heldKeys.ts"
import * as kvService from "../internal/kv/makeKv.ts"
import * as sessionPool from "../internal/session/sessionPool.ts"
import type { Options as TempKeyOptions, TempKey } from "../internal/tempKey/model.ts"
import type { TempKeyTaken } from "../internal/tempKey/tempKeyErrors.ts"
import type { Entry, Value } from "../values/Entry.ts"
import type * as KeyRange from "../values/KeyRange.ts"
import type { KvError } from "../values/KvError.ts"
import type * as Op from "../values/Op.ts"
import type { Event } from "../values/Watch.ts"
import {
  Kv,
  type RangeStreamOptions,
  type ReadOptions,
  type SetOptions,
  type Subscription,
  TypeId,
  type WatchOptions
} from "./KvService.ts"

export {
  /** The service tag, and the interface of a key-value store. */
  Kv,
  /** Identifies the `Kv` service. */
  TypeId
}

export type {
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
    sessionPool.make(guard.unguarded(raw)),
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
  (self: Kv, f: (backend: KvBackend) => KvBackend): Kv =>
    kvService.make({ ...self.origin, raw: f(self.origin.raw) }, self.sessions)
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
  (self: Kv, prefix: string): Kv =>
    kvService.make(
      { ...self.origin, prefix: self.origin.prefix + prefix, raw: Namespace.prefixed(prefix)(self.origin.raw) },
      self.sessions
    )
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

const delete_ = (
  keyOrRange: string | KeyRange.KeyRange,
  options?: Op.DeleteOptions
): Effect.Effect<Op.DeleteResponse, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.delete(keyOrRange, options))

export {
  /** See {@link Kv.delete}. */
  delete_ as delete
}

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
  keyOrRange: string | KeyRange.KeyRange,
  options?: WatchOptions
): Stream.Stream<Event, KvError, Kv> => Stream.unwrap(Effect.map(Kv, (kv) => kv.watch(keyOrRange, options)))

/** See {@link Kv.subscribe}. */
export const subscribe = (
  keyOrRange: string | KeyRange.KeyRange,
  options?: WatchOptions
): Effect.Effect<Subscription, KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => kv.subscribe(keyOrRange, options))

/** See {@link Kv.waitForChange}. */
export const waitForChange = (
  key: string,
  options?: Pick<WatchOptions, "startRevision" | "previous" | "only">
): Effect.Effect<Event, KvError, Kv> => Effect.flatMap(Kv, (kv) => kv.waitForChange(key, options))

/** See {@link Kv.tempKey}. */
export const tempKey = (
  key: string,
  options?: TempKeyOptions
): Effect.Effect<TempKey, KvError | TempKeyTaken, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => kv.tempKey(key, options))
