/**
 * Operations and their responses: the types of the `Op` module.
 */
import type * as Option from "effect/Option"
import type { Compare } from "./Compare.ts"
import type { Entry, Value } from "./Entry.ts"
import type * as KeyRange from "./KeyRange.ts"

/** The order of entries. Entries that are equal in it have no particular order. */
export type OrderBy = "key" | "createRevision" | "modRevision" | "version"

/** Options of a read. */
export interface RangeOptions {
  /** The maximum number of entries, at least 1. The response says whether there are `more`. Default: all. */
  readonly limit?: number | undefined
  /** Default: ascending by key. */
  readonly order?: { readonly by: OrderBy; readonly direction?: "ascending" | "descending" | undefined } | undefined
  /** Read entries without their values, and without their leases, which etcd 3.7 does not report here. */
  readonly keysOnly?: boolean | undefined
  /** Read only the number of entries. */
  readonly countOnly?: boolean | undefined
  /** Read the store as it was at this revision. Default: now. */
  readonly revision?: bigint | undefined
  /** Read from any member, without a quorum: faster, and may be stale. Default: linearizable. */
  readonly serializable?: boolean | undefined
  /** Only entries last written at this revision or later. `count` ignores it. */
  readonly minModRevision?: bigint | undefined
  /** Only entries last written at this revision or before. `count` ignores it. */
  readonly maxModRevision?: bigint | undefined
  /** Only entries created at this revision or later. `count` ignores it. */
  readonly minCreateRevision?: bigint | undefined
  /** Only entries created at this revision or before. `count` ignores it. */
  readonly maxCreateRevision?: bigint | undefined
}

/** Reads the entries of a range. */
export interface Range extends RangeOptions {
  readonly _tag: "Range"
  readonly range: KeyRange.KeyRange
}

/** Options of a put. */
export interface PutOptions {
  /**
   * The id of the lease that the key is attached to, or another entry's `lease` as it is. Default: none, and a lease the key
   * had before is detached.
   */
  readonly lease?: bigint | Option.Option<bigint> | undefined
  /** Return the entry before the write. Default: false. */
  readonly previous?: boolean | undefined
}

/** Writes a value. */
export interface Put extends Omit<PutOptions, "lease"> {
  readonly _tag: "Put"
  readonly key: string
  readonly value: Value
  readonly lease?: bigint | undefined
}

/** Options of a delete. */
export interface DeleteOptions {
  /** Return the deleted entries. Default: false. */
  readonly previous?: boolean | undefined
}

/** Deletes the keys of a range. */
export interface Delete extends DeleteOptions {
  readonly _tag: "Delete"
  readonly range: KeyRange.KeyRange
}

/** Runs `then` if all of `if` hold, else `else`: atomically, at one revision. */
export interface Txn<
  out Then extends ReadonlyArray<Op> = ReadonlyArray<Op>,
  out Else extends ReadonlyArray<Op> = ReadonlyArray<Op>
> {
  readonly _tag: "Txn"
  readonly if: ReadonlyArray<Compare>
  readonly then: Then
  readonly else: Else
}

/** An operation. */
export type Op = Range | Put | Delete | Txn

/** The response to a `Range`. */
export interface RangeResponse {
  readonly _tag: "Range"
  /** The store's revision at the time of the read; in a transaction, that of the transaction. */
  readonly revision: bigint
  readonly entries: ReadonlyArray<Entry>
  /** The number of keys in the range, whatever the limit. */
  readonly count: number
  /** Whether the range holds more entries than the limit. */
  readonly more: boolean
}

/** The response to a `Put`. */
export interface PutResponse {
  readonly _tag: "Put"
  /** The revision of the write. */
  readonly revision: bigint
  /** The entry before the write, if it was requested and there was one. */
  readonly previous: Option.Option<Entry>
}

/** The response to a `Delete`. */
export interface DeleteResponse {
  readonly _tag: "Delete"
  /** The revision of the delete, or the store's if there was nothing to delete. */
  readonly revision: bigint
  /** How many keys were deleted. */
  readonly deleted: number
  /** The deleted entries, ordered by key; empty unless they were requested. */
  readonly previous: ReadonlyArray<Entry>
}

/** The response to a `Txn`: which branch ran, and the responses of its operations in the same order. */
export type TxnResponse<
  Then extends ReadonlyArray<Op> = ReadonlyArray<Op>,
  Else extends ReadonlyArray<Op> = ReadonlyArray<Op>
> =
  | {
    readonly _tag: "Txn"
    /** The revision of the writes in it, or the store's if it wrote nothing. */
    readonly revision: bigint
    readonly succeeded: true
    readonly responses: Responses<Then>
  }
  | {
    readonly _tag: "Txn"
    readonly revision: bigint
    readonly succeeded: false
    readonly responses: Responses<Else>
  }

/** The type of an operation's response. */
export type Response<O extends Op = Op> = O extends Range ? RangeResponse
  : O extends Put ? PutResponse
  : O extends Delete ? DeleteResponse
  : O extends Txn<infer Then, infer Else> ? TxnResponse<Then, Else>
  : never

/** The tuple of the responses of a tuple of operations. */
export type Responses<Ops extends ReadonlyArray<Op>> = { readonly [K in keyof Ops]: Response<Ops[K]> }
