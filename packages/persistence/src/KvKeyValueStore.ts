/**
 * Effect's `KeyValueStore` on `Kv`: the keys under a prefix of a store that other programs may use too.
 *
 * Compared with the store's own service, `Kv`, it has no revisions, leases, watches or transactions. Use it for code that
 * is written against `KeyValueStore`, and `Kv` for the rest.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as KeyValueStore from "effect/persistence/KeyValueStore"
import * as Stream from "effect/Stream"

/**
 * Options of a `KeyValueStore`.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * The prefix of its keys. It must not be empty: `clear` would delete everything in the store, locks included. Let it end
   * with a separator, because `clear` under `"app"` also deletes the keys under `"app2/"`.
   */
  readonly prefix: string
}

/**
 * Makes a `KeyValueStore` of the keys under a prefix. Fails with `KeyValueStoreError` if the prefix is empty or not
 * well-formed Unicode.
 *
 * **Details**
 *
 * - A value is bytes. `set` stores a string as UTF-8. `get` returns the text of bytes that are UTF-8, however they were
 *   written, and the base64 of other bytes. `getUint8Array` returns the bytes.
 * - `modify` is atomic, and does not create a missing key. If other clients write in between, it calls the function again, after a
 *   random pause from the eighth conflict on, until the `Deadline` (default: 5 seconds). The key keeps its lease.
 * - `clear` and `clearPrefix` are one delete of a range. `size` is one count. `keys` shows one revision, in the order of the
 *   keys, and is read page by page.
 * - Every method fails with `KeyValueStoreError`. Its `cause` is the `KvError`, whose `outcome` says whether a write may have
 *   been applied.
 * - Under a lock of the same client, writes are fenced, as those of `Kv`.
 *
 * **Gotchas**
 *
 * `KeyValueStore.prefix(store, "a/")` lists all keys and filters them in the client. Make another store with a longer prefix
 * instead. `modify` of `KeyValueStore.toSchemaStore` is a `get` and a `set`, so it is not atomic on any store:
 * `KvCollection` of `@effect-kv/core` is.
 *
 * @example
 * ```ts
 * import { KvKeyValueStore } from "@effect-kv/persistence"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* KvKeyValueStore.make({ prefix: "settings/" })
 *   yield* store.set("theme", "dark")
 *   yield* store.modify("theme", (theme) => theme.toUpperCase()) // => "DARK"
 *   yield* store.keys // => ["theme"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<KeyValueStore.KeyValueStore, KeyValueStore.KeyValueStoreError, Kv.Kv> {
  const problem = invalidPrefix(options.prefix)
  if (problem !== undefined) return yield* new KeyValueStore.KeyValueStoreError({ method: "make", message: problem })
  const kv = Kv.prefixed(yield* Kv.Kv, options.prefix)

  const ofKey = <A>(
    method: string,
    key: string,
    effect: Effect.Effect<A, KvError.KvError>
  ): Effect.Effect<A, KeyValueStore.KeyValueStoreError> => {
    const problem = KeyRange.invalidKey(key)
    return problem === undefined
      ? Effect.mapError(effect, (cause) => failure(method, cause, key))
      : Effect.fail(new KeyValueStore.KeyValueStoreError({ method, key, message: problem }))
  }

  const ofStore = <A>(method: string, effect: Effect.Effect<A, KvError.KvError>, prefix?: string) =>
    Effect.mapError(effect, (cause) => failure(method, cause, prefix))

  const read = <A>(method: string, key: string, f: (bytes: Uint8Array) => A) =>
    ofKey(
      method,
      key,
      Effect.map(kv.getEntry(key), (entry) => Option.isSome(entry) ? f(entry.value.value) : undefined)
    )

  const modify = <A extends string | Uint8Array>(
    method: string,
    key: string,
    before: (bytes: Uint8Array) => A,
    f: (value: A) => A
  ): Effect.Effect<A | undefined, KeyValueStore.KeyValueStoreError> =>
    ofKey(
      method,
      key,
      kv.atomically((transaction) =>
        Effect.gen(function*() {
          const entry = yield* transaction.getEntry(key)
          if (Option.isNone(entry)) return undefined
          const value = f(before(entry.value.value))
          yield* transaction.put(key, value, { lease: "keep" })
          return value
        })
      )
    )

  const clear = ofStore("clear", Effect.asVoid(kv.deleteRange(KeyRange.all)))

  return KeyValueStore.make({
    get: (key) => read("get", key, textOf),
    getUint8Array: (key) => read("getUint8Array", key, (bytes) => bytes),
    set: (key, value) => ofKey("set", key, Effect.asVoid(kv.put(key, value))),
    remove: (key) => ofKey("remove", key, Effect.asVoid(kv.delete(key))),
    has: (key) => ofKey("has", key, Effect.map(kv.count(KeyRange.key(key)), (count) => count > 0)),
    modify: (key, f) => modify("modify", key, textOf, f),
    modifyUint8Array: (key, f) => modify("modifyUint8Array", key, (bytes) => bytes, f),
    clear,
    clearPrefix: (prefix) =>
      prefix === ""
        ? clear
        : ofStore("clearPrefix", Effect.asVoid(kv.deleteRange(KeyRange.prefix(prefix))), prefix),
    size: ofStore("size", kv.count(KeyRange.all)),
    isEmpty: ofStore(
      "isEmpty",
      Effect.map(kv.range(KeyRange.all, { limit: 1, keysOnly: true }), ({ entries }) => entries.length === 0)
    ),
    keys: ofStore(
      "keys",
      kv.rangeStream(KeyRange.all, { keysOnly: true }).pipe(
        Stream.map(({ key }) => key),
        Stream.runCollect
      )
    )
  })
})

/**
 * Provides `KeyValueStore` from the keys of `Kv` under a prefix: see {@link make}.
 *
 * @example
 * ```ts
 * import { KvKeyValueStore } from "@effect-kv/persistence"
 * import { Effect } from "effect"
 * import { KeyValueStore } from "effect/persistence"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* KeyValueStore.KeyValueStore
 *   yield* store.set("theme", "dark")
 *   yield* store.get("theme") // => "dark"
 * }).pipe(Effect.provide(KvKeyValueStore.layer({ prefix: "settings/" })))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (
  options: Options
): Layer.Layer<KeyValueStore.KeyValueStore, KeyValueStore.KeyValueStoreError, Kv.Kv> =>
  Layer.effect(KeyValueStore.KeyValueStore, make(options))

const invalidPrefix = (prefix: string): string | undefined => {
  if (prefix === "") {
    return "the prefix must not be empty, because clear would delete every key of the store; use one such as \"my-app/\""
  }
  return prefix.isWellFormed() ? undefined : "the prefix has a lone surrogate; it must be well-formed Unicode"
}

const failure = (method: string, cause: KvError.KvError, key?: string): KeyValueStore.KeyValueStoreError =>
  new KeyValueStore.KeyValueStoreError({
    method,
    message: cause.message,
    cause,
    ...(key === undefined ? {} : { key })
  })

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The text of the bytes, or their base64 if they are not UTF-8. */
const textOf = (bytes: Uint8Array): string => {
  try {
    return strict.decode(bytes)
  } catch {
    return Base64.encode(bytes)
  }
}
