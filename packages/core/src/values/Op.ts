/**
 * Everything a client can ask of the store's data, as a value: `Range`, `Put`, `Delete`, `Txn`.
 *
 * Because an operation is a value, what cuts across all of them (namespaces, fencing, batching, tracing) is a function
 * from operations to operations. The response's type is known from the operation's, through nested transactions too.
 */
import { NodeInspectSymbol } from "effect/Inspectable"
import type * as Option from "effect/Option"
import { checkOp } from "../internal/values/checkOp.ts"
import * as json from "../internal/values/json.ts"
import type { Compare } from "./Compare.ts"
import type { Entry, Value } from "./Entry.ts"
import * as KeyRange from "./KeyRange.ts"

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
export type Response<O extends Op> = O extends Range ? RangeResponse
  : O extends Put ? PutResponse
  : O extends Delete ? DeleteResponse
  : O extends Txn<infer Then, infer Else> ? TxnResponse<Then, Else>
  : never

/** The tuple of the responses of a tuple of operations. */
export type Responses<Ops extends ReadonlyArray<Op>> = { readonly [K in keyof Ops]: Response<Ops[K]> }

/** Reads one key. */
export const get = (key: string, options?: RangeOptions): Range => range(KeyRange.key(key), options)

/** Reads the entries of a range. */
export const range = (range: KeyRange.KeyRange, options?: RangeOptions): Range => ({ _tag: "Range", range, ...options })

/** Writes a value. Bytes are copied; the array given can be reused. */
export const put = (key: string, value: Value, options?: PutOptions): Put => new PutOp(key, value, options)

/** A class for its `toJSON` and `inspect`: operations end up in logs, and values may be secrets. */
class PutOp implements Put {
  readonly _tag = "Put" as const
  readonly key: string
  readonly value: Value
  readonly lease: bigint | undefined
  readonly previous: boolean | undefined

  constructor(key: string, value: Value, options: PutOptions | undefined) {
    this.key = key
    this.value = value instanceof Uint8Array ? new Uint8Array(value) : value
    this.lease = options?.lease
    this.previous = options?.previous
  }

  toJSON(): unknown {
    return { _tag: "Put", key: this.key, value: "<redacted>", lease: this.lease?.toString() }
  }

  [NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

const delete_ = (keyOrRange: string | KeyRange.KeyRange, options?: DeleteOptions): Delete => ({
  _tag: "Delete",
  range: KeyRange.fromInput(keyOrRange),
  ...options
})

export {
  /** Deletes a key, or the keys of a range. Deleting nothing is a success. */
  delete_ as delete
}

/** The parts of a transaction; each may be left out. */
export interface TxnInput<Then extends ReadonlyArray<Op>, Else extends ReadonlyArray<Op>> {
  /** All must hold for `then` to run. None: they hold. */
  readonly if?: ReadonlyArray<Compare> | undefined
  readonly then?: Then | undefined
  readonly else?: Else | undefined
}

/**
 * Runs `then` if all of `if` hold, else `else`: atomically, at one revision.
 *
 * **Gotchas**
 *
 * A key may be put only once in a transaction, nested ones included, and not be put and deleted. Each list may hold 128
 * elements, and a nested transaction what the outer lists leave of that.
 */
export const txn = <
  const Then extends ReadonlyArray<Op> = readonly [],
  const Else extends ReadonlyArray<Op> = readonly []
>(input: TxnInput<Then, Else>): Txn<Then, Else> => ({
  _tag: "Txn",
  if: input.if ?? [],
  then: input.then ?? ([] as ReadonlyArray<Op> as Then),
  else: input.else ?? ([] as ReadonlyArray<Op> as Else)
})

/** Responses are classes for their `toJSON` alone: JSON has no bigints. */
class RangeRecord implements RangeResponse {
  readonly _tag = "Range" as const
  readonly revision: bigint
  readonly entries: ReadonlyArray<Entry>
  readonly count: number
  readonly more: boolean

  constructor(fields: Omit<RangeResponse, "_tag">) {
    this.revision = fields.revision
    this.entries = fields.entries
    this.count = fields.count
    this.more = fields.more
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

class PutRecord implements PutResponse {
  readonly _tag = "Put" as const
  readonly revision: bigint
  readonly previous: Option.Option<Entry>

  constructor(fields: Omit<PutResponse, "_tag">) {
    this.revision = fields.revision
    this.previous = fields.previous
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

class DeleteRecord implements DeleteResponse {
  readonly _tag = "Delete" as const
  readonly revision: bigint
  readonly deleted: number
  readonly previous: ReadonlyArray<Entry>

  constructor(fields: Omit<DeleteResponse, "_tag">) {
    this.revision = fields.revision
    this.deleted = fields.deleted
    this.previous = fields.previous
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

class TxnRecord {
  readonly _tag = "Txn" as const
  readonly revision: bigint
  readonly succeeded: boolean
  readonly responses: ReadonlyArray<Response<Op>>

  constructor(fields: Omit<TxnResponse, "_tag">) {
    this.revision = fields.revision
    this.succeeded = fields.succeeded
    this.responses = fields.responses
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

/** Makes the response to a `Range`. For backends. */
export const rangeResponse = (fields: Omit<RangeResponse, "_tag">): RangeResponse => new RangeRecord(fields)

/** Makes the response to a `Put`. For backends. */
export const putResponse = (fields: Omit<PutResponse, "_tag">): PutResponse => new PutRecord(fields)

/** Makes the response to a `Delete`. For backends. */
export const deleteResponse = (fields: Omit<DeleteResponse, "_tag">): DeleteResponse => new DeleteRecord(fields)

/** Makes the response to a `Txn`. For backends. */
export const txnResponse = (fields: Omit<TxnResponse, "_tag">): TxnResponse => new TxnRecord(fields) as TxnResponse

/** Whether an operation can change the store. */
export const isWrite = (self: Op): boolean => {
  switch (self._tag) {
    case "Range":
      return false
    case "Put":
    case "Delete":
      return true
    case "Txn":
      return self.then.some(isWrite) || self.else.some(isWrite)
  }
}

/**
 * What is wrong with an operation, `undefined` where nothing is.
 *
 * **When to use**
 *
 * In a backend, before an operation is carried out or sent, to answer `InvalidRequest` with the message.
 *
 * **Details**
 *
 * Finds empty and ill-formed keys, inverted ranges, limits and revisions that are not positive, strings that are not
 * Unicode, keys written twice in a transaction (by the algorithm of etcd's `checkIntervals`), and transactions with more
 * than `maxTxnOps` operations (by etcd's counting; not limited by default).
 */
export const check: (self: Op, options?: { readonly maxTxnOps?: number | undefined }) => string | undefined = checkOp
