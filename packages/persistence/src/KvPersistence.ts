/**
 * Effect's `Persistence` on `Kv`: results of requests that outlive the process, and are shared by a fleet.
 *
 * Entries that expire are deleted by the store itself, through leases. The value also has the exact time at which it
 * expires, because a lease lasts whole seconds and somewhat longer than necessary.
 */
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Persistence from "effect/persistence/Persistence"
import * as Schema from "effect/Schema"
import * as checked from "./internal/checked.ts"
import * as leasePool from "./internal/leasePool.ts"
import * as segment from "./internal/segment.ts"

/**
 * Options of a persistence.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * The prefix of its keys. A slash is added if it does not end with one. The key of an entry is `PREFIX/STORE_ID/KEY`.
   * Default: `"persistence/"`.
   */
  readonly prefix?: string | undefined
}

/** How many operations a transaction can have. */
const maxOps = 128

/** How many bytes of keys and values one transaction of `setMany` has at most, unless a single entry has more. */
const maxBytes = 1024 * 1024

const Stored = Schema.fromJsonString(
  Schema.Struct({
    /** When it expires, in milliseconds since 1970; `null` if it does not. */
    expires: Schema.NullOr(Schema.Finite),
    value: Schema.ObjectKeyword
  })
)

const decode = Schema.decodeEffect(Stored)
const encode = Schema.encodeEffect(Stored)

/**
 * Makes Effect's `BackingPersistence` on `Kv`. Fails with `InvalidRequest` if the prefix is no part of a key.
 *
 * **Details**
 *
 * - An entry expires at the time that its writer's `Clock` gives, compared with the reader's. The store deletes it a little
 *   later, by a lease that entries with similar times to live share. If the clocks of two machines differ, an entry may expire
 *   that much earlier or later.
 * - `getMany` returns as many results as there are keys, in their order. They may be of different revisions.
 * - `setMany` writes in transactions of up to 128 entries and 1 MiB. Each is applied as a whole or not at all. Of several
 *   entries with one key, the last is written.
 * - `clear` is one delete of a range.
 * - Every function fails with `PersistenceError`, whose `cause` is the `KvError`. An entry that is not of this module is a
 *   failure that names its key.
 * - Under a lock of the same client, writes are fenced, as those of `Kv`.
 *
 * @example
 * ```ts
 * import { KvPersistence } from "@effect-kv/persistence"
 * import { Duration, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const backing = yield* KvPersistence.makeBacking()
 *   const users = yield* backing.make("users")
 *   yield* users.set("ada", { name: "Ada" }, Duration.minutes(5))
 *   yield* users.getMany(["bob", "ada"]) // => [undefined, { name: "Ada" }]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const makeBacking = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<Persistence.BackingPersistence["Service"], KvError.KvError, Kv.Kv> {
  const kv = yield* Kv.Kv
  const prefix = yield* checked.prefix(options?.prefix ?? "persistence/")
  const leases = yield* leasePool.make(kv)
  return Persistence.BackingPersistence.of({
    make: (storeId) => Effect.succeed(storeOf(kv, leases, `${prefix}${segment.of(storeId)}/`))
  })
})

/**
 * Provides Effect's `BackingPersistence` from `Kv`: see {@link makeBacking}.
 *
 * @example
 * ```ts
 * import { KvPersistence } from "@effect-kv/persistence"
 * import { Effect } from "effect"
 * import { Persistence } from "effect/persistence"
 *
 * const program = Effect.gen(function*() {
 *   const backing = yield* Persistence.BackingPersistence
 *   const users = yield* backing.make("users")
 *   yield* users.set("ada", { name: "Ada" }, undefined)
 *   yield* users.get("ada") // => { name: "Ada" }
 * }).pipe(Effect.scoped, Effect.provide(KvPersistence.layerBacking()))
 * ```
 *
 * @since 0.1.0
 */
export const layerBacking = (options?: Options): Layer.Layer<Persistence.BackingPersistence, KvError.KvError, Kv.Kv> =>
  Layer.effect(Persistence.BackingPersistence, makeBacking(options))

/**
 * Provides Effect's `Persistence` from `Kv`, for `Persistence`, `PersistedCache` and `RequestResolver.persisted`.
 *
 * @example
 * ```ts
 * import { KvPersistence } from "@effect-kv/persistence"
 * import { Effect, Exit, Schema } from "effect"
 * import { Persistable, Persistence } from "effect/persistence"
 *
 * class UserName extends Persistable.Class<{ payload: { id: number } }>()("UserName", {
 *   primaryKey: ({ id }) => `${id}`,
 *   success: Schema.String
 * }) {}
 *
 * const program = Effect.gen(function*() {
 *   const persistence = yield* Persistence.Persistence
 *   const names = yield* persistence.make({ storeId: "names", timeToLive: () => "5 minutes" })
 *   yield* names.set(new UserName({ id: 1 }), Exit.succeed("Ada"))
 *   yield* names.get(new UserName({ id: 1 })) // => Exit.succeed("Ada")
 * }).pipe(Effect.scoped, Effect.provide(KvPersistence.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Persistence.Persistence, KvError.KvError, Kv.Kv> =>
  Layer.provide(Persistence.layer, layerBacking(options))

/** An entry as it is written. */
interface Write {
  readonly key: string
  readonly text: string
  /** How long its lease must live, in milliseconds; `none` if the entry does not expire. */
  readonly ttlMillis: Option.Option<number>
}

const storeOf = (
  kv: Kv.Kv,
  leases: leasePool.LeasePool,
  prefix: string
): Persistence.BackingPersistenceStore => {
  const get = Effect.fnUntraced(function*(key: string) {
    const entry = yield* Effect.mapError(
      kv.getEntry(prefix + key),
      (cause) => failure(`could not read ${nameOf(key)}`, cause)
    )
    if (Option.isNone(entry)) return undefined
    const { expires, value } = yield* Effect.flatMap(entry.value.text, decode).pipe(
      Effect.mapError((cause) => failure(`${nameOf(key)} is not an entry of a persistence; delete it`, cause))
    )
    return expires !== null && expires <= (yield* Clock.currentTimeMillis) ? undefined : value
  })

  const writeOf = Effect.fnUntraced(function*(key: string, value: object, ttl: Duration.Duration | undefined) {
    const ttlMillis = ttl !== undefined && Duration.isFinite(ttl)
      ? Option.some(Duration.toMillis(ttl))
      : Option.none()
    const now = yield* Clock.currentTimeMillis
    const expires = Option.match(ttlMillis, { onNone: () => null, onSome: (millis) => now + millis })
    const text = yield* Effect.mapError(
      encode({ expires, value }),
      (cause) => failure(`${nameOf(key)} cannot be written as JSON`, cause)
    )
    return { key: prefix + key, text, ttlMillis }
  })

  const putOf = ({ key, text, ttlMillis }: Write): Effect.Effect<Op.Put, KvError.KvError> =>
    Option.match(ttlMillis, {
      onNone: () => Effect.succeed(Op.put(key, text)),
      onSome: (millis) => Effect.map(leases.lease(millis), (lease) => Op.put(key, text, { lease }))
    })

  const put = (writes: ReadonlyArray<Write>): Effect.Effect<void, KvError.KvError> =>
    leases.write(
      Effect.flatMap(
        Effect.forEach(writes, putOf),
        (puts) => Effect.asVoid(kv.txn({ then: puts }))
      )
    )

  return {
    get,
    getMany: (keys) => Effect.forEach(keys, get, { concurrency: maxOps }),
    set: Effect.fnUntraced(function*(key, value, ttl) {
      const write = yield* writeOf(key, value, ttl)
      yield* Effect.mapError(put([write]), (cause) => failure(`could not write ${nameOf(key)}`, cause))
    }),
    setMany: Effect.fnUntraced(function*(entries) {
      const writes = yield* Effect.forEach(entries, ([key, value, ttl]) => writeOf(key, value, ttl))
      const lastOfKeys = new Map(writes.map((write) => [write.key, write]))
      // Each fence takes one of the operations.
      const fences = yield* Fence.Current
      yield* Effect.forEach(
        chunksOf([...lastOfKeys.values()], maxOps - fences.length),
        (chunk) =>
          Effect.mapError(put(chunk), (cause) => failure(`could not write ${chunk.length} of the entries`, cause)),
        { discard: true }
      )
    }),
    remove: (key) =>
      Effect.mapError(
        Effect.asVoid(kv.delete(prefix + key)),
        (cause) => failure(`could not remove ${nameOf(key)}`, cause)
      ),
    clear: Effect.mapError(
      Effect.asVoid(kv.deleteRange(KeyRange.prefix(prefix))),
      (cause) => failure("could not clear the store", cause)
    )
  }
}

const chunksOf = (writes: ReadonlyArray<Write>, ops: number): ReadonlyArray<ReadonlyArray<Write>> => {
  const chunks: Array<Array<Write>> = []
  let current: Array<Write> = []
  let bytes = 0
  for (const write of writes) {
    const size = byteLength(write.key) + byteLength(write.text)
    if (current.length > 0 && (current.length === ops || bytes + size > maxBytes)) {
      chunks.push(current)
      current = []
      bytes = 0
    }
    current.push(write)
    bytes += size
  }
  if (current.length > 0) chunks.push(current)
  return chunks
}

const encoder = new TextEncoder()

const byteLength = (text: string): number => encoder.encode(text).length

const nameOf = (key: string): string => `the entry ${JSON.stringify(key)}`

const failure = (what: string, cause: KvError.KvError | Schema.SchemaError): Persistence.PersistenceError =>
  new Persistence.PersistenceError({ message: `${what}: ${cause.message}`, cause })
