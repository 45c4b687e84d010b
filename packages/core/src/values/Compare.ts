/**
 * A condition of a transaction: it compares a property of a key with a given value.
 *
 * A key that does not exist has version 0, both revisions 0 and no lease. Every comparison of its value is false, `!=` too.
 */
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import type { Value } from "./Entry.ts"
import type { KeyRange } from "./KeyRange.ts"

/** How the two sides are compared. Values compare by their bytes. */
export type Operator = "=" | "!=" | "<" | ">"

/** A condition of a transaction. */
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

/** A condition on one key. */
export type OfKey = Exclude<Compare, { readonly target: "CreatedBefore" }>

/** The key's value compares with `value` by the operator. False if the key does not exist. */
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

/** The number of writes since the key was created; 0 when it does not exist. */
export const version = (key: string, operator: Operator, value: number): OfKey => ({
  target: "Version",
  key,
  operator,
  value
})

/** The revision of the write that created the key; `0n` when it does not exist. */
export const createRevision = (key: string, operator: Operator, value: bigint): OfKey => ({
  target: "CreateRevision",
  key,
  operator,
  value
})

/** The revision of the last write to the key; `0n` when it does not exist. */
export const modRevision = (key: string, operator: Operator, value: bigint): OfKey => ({
  target: "ModRevision",
  key,
  operator,
  value
})

/**
 * The id of the lease that the key is attached to, or an entry's `lease` as it is. `none` stands for a key without a lease and
 * for a missing key, and is less than every positive id.
 */
export const lease = (key: string, operator: Operator, value: bigint | Option.Option<bigint>): OfKey => ({
  target: "Lease",
  key,
  operator,
  value: typeof value === "bigint" ? value : Option.getOrElse(value, () => 0n)
})

/** The key exists. */
export const exists = (key: string): OfKey => createRevision(key, ">", 0n)

/** The key does not exist. */
export const missing = (key: string): OfKey => createRevision(key, "=", 0n)

/**
 * Every key in the range was created before the revision, so none was created since. True if the range holds no key.
 */
export const createdBefore = (range: KeyRange, revision: bigint): Compare => ({
  target: "CreatedBefore",
  range,
  revision
})

/** The range holds no key. */
export const empty = (range: KeyRange): Compare => createdBefore(range, 1n)
