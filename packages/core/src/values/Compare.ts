/**
 * Conditions of a transaction: each compares one property of a key, or of the keys in a range, with a given value.
 *
 * For a missing key the version, both revisions and the lease are 0. Every comparison of its value is false, `!=` too.
 */
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import type { Value } from "./Entry.ts"
import type { KeyRange } from "./KeyRange.ts"

/**
 * How the property of the key compares with the given value. Values compare by their bytes.
 *
 * @since 0.1.0
 */
export type Operator = "=" | "!=" | "<" | ">"

/**
 * A condition of a transaction. The functions of this module make it.
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
    /** A `Lease` of `0n` is none, as in etcd, where the order of leases is that of their ids. */
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
 * The key's value compares so with the given value. False if the key does not exist.
 *
 * **Gotchas**
 *
 * `!=` is false for a missing key. To include that case, use two transactions or {@link missing}.
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
 * The key's version compares so with the given number. The version counts the writes since the key was created, which
 * is write 1; it is 0 if the key does not exist.
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
 * The revision of the write that created the key compares so with the given revision; it is `0n` if the key does not
 * exist.
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
 * The revision of the last write to the key compares so with the given revision; it is `0n` if the key does not exist.
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
 * The id of the lease that the key is attached to compares so with the given id; it is `0n` if the key has no lease or
 * does not exist.
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
 * The key exists.
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
 * The key does not exist.
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
 * Every key in the range was created before the revision. True if the range holds no key.
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
 * The range holds no key.
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
