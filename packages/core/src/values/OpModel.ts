/**
 * What an operation and its response are: the types of the `Op` module.
 */
import type * as Option from "effect/Option"
import type { Compare } from "./Compare.ts"
import type { Entry, Value } from "./Entry.ts"
import type * as KeyRange from "./KeyRange.ts"

/** What entries can be ordered by. Entries that are equal in it come in no particular order. */
export type OrderBy = "key" | "createRevision" | "modRevision" | "version"

/** Options of a read. */
export interface RangeOptions {
  /** At most so many entries, a positive number. The response says whether there are `more`. Default: all. */
  readonly limit?: number | undefined
  /** Default: ascending by key. */
  readonly order?: { readonly by: OrderBy; readonly direction?: "ascending" | "descending" | undefined } | undefined
  /** Entries come with empty values and without their leases, which etcd 3.7 does not report here. */
  readonly keysOnly?: boolean | undefined
  /** No entries come, only their count. */
  readonly countOnly?: boolean | undefined
  /** Read the store as it was at this revision. Default: now. */
  readonly revision?: bigint | undefined
  /** Answered by whichever member is asked, from what it knows: faster, and may be stale. Default: linearizable. */
  readonly serializable?: boolean | undefined
  /** Only entries last written at this revision or later. `count` does not regard it. */
  readonly minModRevision?: bigint | undefined
  /** Only entries last written at this revision or before. `count` does not regard it. */
  readonly maxModRevision?: bigint | undefined
  /** Only entries created at this revision or later. `count` does not regard it. */
  readonly minCreateRevision?: bigint | undefined
  /** Only entries created at this revision or before. `count` does not regard it. */
  readonly maxCreateRevision?: bigint | undefined
}

/** Reads the entries of a range. */
export interface Range extends RangeOptions {
  readonly _tag: "Range"
  readonly range: KeyRange.KeyRange
}

/** Options of a put. */
export interface PutOptions {
  /** The key dies with this lease. Default: none, and a lease the key had before is detached. */
  readonly lease?: bigint | undefined
  /** Respond with the entry that was there before. Default: false. */
  readonly previous?: boolean | undefined
}

/** Writes a value. */
export interface Put extends PutOptions {
  readonly _tag: "Put"
  readonly key: string
  readonly value: Value
}

/** Options of a delete. */
export interface DeleteOptions {
  /** Respond with the entries that were deleted. Default: false. */
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

/** The answer to a `Range`. */
export interface RangeResponse {
  readonly _tag: "Range"
  /** The store's revision when it answered; inside a transaction, the transaction's. */
  readonly revision: bigint
  readonly entries: ReadonlyArray<Entry>
  /** How many keys the range holds, whatever the limit. */
  readonly count: number
  /** Whether the limit cut entries off. */
  readonly more: boolean
}

/** The answer to a `Put`. */
export interface PutResponse {
  readonly _tag: "Put"
  /** The revision of the write. */
  readonly revision: bigint
  /** The entry that was there before: only if it was asked for, and there was one. */
  readonly previous: Option.Option<Entry>
}

/** The answer to a `Delete`. */
export interface DeleteResponse {
  readonly _tag: "Delete"
  /** The revision of the delete, or the store's if there was nothing to delete. */
  readonly revision: bigint
  /** How many keys were deleted. */
  readonly deleted: number
  /** The entries that were deleted, in order of their keys: only if they were asked for. */
  readonly previous: ReadonlyArray<Entry>
}

/** The answer to a `Txn`: which branch ran, and the responses of its operations, each in its place. */
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
