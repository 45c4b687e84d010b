/**
 * A condition of a transaction: it compares a property of a key with a given value.
 *
 * A key that does not exist has version 0, both revisions 0 and no lease. Every comparison of its value is false, `!=`
 * too.
 */
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import type { Value } from "./Entry.ts"
import type { KeyRange } from "./KeyRange.ts"

/**
 * The comparison of the two sides. Values compare by their bytes.
 *
 * @since 0.1.0
 */
export type Operator = "=" | "!=" | "<" | ">"

/**
 * A condition of a transaction.
 *
 * @since 0.1.0
 */
export type Compare =
  | {
    readonly target: "Value"
    readonly key: string
    readonly operator: Operator
    readonly value: Value
  }
  | {
    readonly target: "Version"
    readonly key: string
    readonly operator: Operator
    readonly value: number
  }
  | {
    /** For a `Lease`, `0n` means none. Leases are ordered by id, as in etcd. */
    readonly target: "CreateRevision" | "ModRevision" | "Lease"
    readonly key: string
    readonly operator: Operator
    readonly value: bigint
  }
  | {
    readonly target: "CreatedBefore"
    readonly range: KeyRange
    readonly revision: bigint
  }

/**
 * A condition on one key.
 *
 * @since 0.1.0
 */
export type OfKey = Exclude<Compare, { readonly target: "CreatedBefore" }>

/**
 * Compares the key's value with the given one, by their bytes. False if the key does not exist.
 *
 * **Gotchas**
 *
 * `!=` is false for a missing key too. Conditions are combined by "and", so none expresses "missing or different".
 *
 * @example
 * ```ts
 * import { Compare, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   yield* kv.put("state", "open")
 *   const { succeeded } = yield* kv.txn({
 *     if: [Compare.value("state", "=", "open")],
 *     then: [Op.put("state", "closed")]
 *   })
 *   const written = succeeded // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const value = (key: string, operator: Operator, value: Value): OfKey => new ValueCompare(key, operator, value)

/** A class because of `toJSON` and `inspect`: conditions are logged, and values may be secrets. */
class ValueCompare {
  readonly target = "Value" as const
  readonly key: string
  readonly operator: Operator
  readonly value: Value

  constructor(key: string, operator: Operator, value: Value) {
    this.key = key
    this.operator = operator
    this.value = value instanceof Uint8Array ? new Uint8Array(value) : value
  }

  toJSON(): unknown {
    return { target: this.target, key: this.key, operator: this.operator, value: "<redacted>" }
  }

  [NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

/**
 * Compares the key's version with the given number. The version is the number of writes since the key was created; it
 * is 0 if the key does not exist.
 *
 * @example
 * ```ts
 * import { Compare, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   yield* kv.put("a", "1")
 *   const { succeeded } = yield* kv.txn({ if: [Compare.version("a", "=", 1)] })
 *   const isFirstWrite = succeeded // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const version = (key: string, operator: Operator, value: number): OfKey => ({
  target: "Version",
  key,
  operator,
  value
})

/**
 * Compares the revision of the write that created the key with the given one; it is `0n` if the key does not exist.
 *
 * **When to use**
 *
 * To write only while the same key still exists: a key that was deleted and created again has another create revision.
 *
 * @example
 * ```ts
 * import { Compare, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const { revision } = yield* kv.put("owner", "a")
 *   yield* kv.delete("owner")
 *   yield* kv.put("owner", "b")
 *   const { succeeded } = yield* kv.txn({
 *     if: [Compare.createRevision("owner", "=", revision)],
 *     then: [Op.put("owner", "a again")]
 *   })
 *   const written = succeeded // => false
 * })
 * ```
 *
 * @since 0.1.0
 */
export const createRevision = (key: string, operator: Operator, value: bigint): OfKey => ({
  target: "CreateRevision",
  key,
  operator,
  value
})

/**
 * Compares the revision of the last write to the key with the given one; it is `0n` if the key does not exist.
 *
 * **When to use**
 *
 * For optimistic updates: read an entry, then write only if no other client has written the key since.
 *
 * @example
 * ```ts
 * import { Compare, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const { revision } = yield* kv.put("a", "1")
 *   yield* kv.put("a", "2")
 *   const { succeeded } = yield* kv.txn({
 *     if: [Compare.modRevision("a", "=", revision)],
 *     then: [Op.put("a", "3")]
 *   })
 *   const written = succeeded // => false
 * })
 * ```
 *
 * @since 0.1.0
 */
export const modRevision = (key: string, operator: Operator, value: bigint): OfKey => ({
  target: "ModRevision",
  key,
  operator,
  value
})

/**
 * Compares the lease that the key is attached to with the given one: an id, or an entry's `lease` as it is.
 *
 * `none` stands for a key without a lease and for a missing key. It is less than every positive id.
 *
 * @example
 * ```ts
 * import { Compare, Kv, Lease } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const lease = yield* Lease.grant({ ttl: "10 seconds" })
 *   yield* kv.put("presence/me", "here", { lease: lease.id })
 *   const { succeeded } = yield* kv.txn({ if: [Compare.lease("presence/me", "=", lease.id)] })
 *   const isMine = succeeded // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const lease = (key: string, operator: Operator, value: bigint | Option.Option<bigint>): OfKey => ({
  target: "Lease",
  key,
  operator,
  value: typeof value === "bigint" ? value : Option.getOrElse(value, () => 0n)
})

/**
 * Holds if the key exists.
 *
 * @example
 * ```ts
 * import { Compare, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const { succeeded } = yield* kv.txn({ if: [Compare.exists("a")], then: [Op.put("a", "2")] })
 *   const written = succeeded // => false
 * })
 * ```
 *
 * @since 0.1.0
 */
export const exists = (key: string): OfKey => createRevision(key, ">", 0n)

/**
 * Holds if the key does not exist.
 *
 * @example
 * ```ts
 * import { Compare, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const { succeeded } = yield* kv.txn({ if: [Compare.missing("a")], then: [Op.put("a", "1")] })
 *   const written = succeeded // => true
 * })
 * ```
 *
 * @since 0.1.0
 */
export const missing = (key: string): OfKey => createRevision(key, "=", 0n)

/**
 * Holds if every key in the range was created before the revision, or if the range holds no key.
 *
 * **When to use**
 *
 * To write only if no key has been created in a range since it was read.
 *
 * @example
 * ```ts
 * import { Compare, KeyRange, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   const seen = yield* kv.range(KeyRange.prefix("jobs/"))
 *   yield* kv.put("jobs/1", "new")
 *   const { succeeded } = yield* kv.txn({
 *     if: [Compare.createdBefore(KeyRange.prefix("jobs/"), seen.revision + 1n)]
 *   })
 *   const isUnchanged = succeeded // => false
 * })
 * ```
 *
 * @since 0.1.0
 */
export const createdBefore = (range: KeyRange, revision: bigint): Compare => ({
  target: "CreatedBefore",
  range,
  revision
})

/**
 * Holds if the range holds no key.
 *
 * @example
 * ```ts
 * import { Compare, KeyRange, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   yield* kv.put("jobs/1", "new")
 *   const { succeeded } = yield* kv.txn({ if: [Compare.empty(KeyRange.prefix("jobs/"))] })
 *   const isEmpty = succeeded // => false
 * })
 * ```
 *
 * @since 0.1.0
 */
export const empty = (range: KeyRange): Compare => createdBefore(range, 1n)
