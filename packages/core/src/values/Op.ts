/**
 * Operations on the store's data, as values: `Range`, `Put`, `Delete`, `Txn`.
 *
 * Because an operation is a value, namespaces, fencing, batching and tracing are functions from operations to
 * operations. The type of a response follows from its operation, in nested transactions too.
 */
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import * as json from "../internal/values/json.ts"
import type { Compare } from "./Compare.ts"
import type { Entry, Value } from "./Entry.ts"
import * as KeyRange from "./KeyRange.ts"
import type {
  Delete,
  DeleteOptions,
  DeleteResponse,
  Op,
  Put,
  PutOptions,
  PutResponse,
  Range,
  RangeOptions,
  RangeResponse,
  Response,
  Txn,
  TxnResponse
} from "./OpModel.ts"

export type * from "./OpModel.ts"

/**
 * Reads one key.
 *
 * @example
 * ```ts
 * import { Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("a", "1")
 *   const { responses: [a, b] } = yield* Kv.txn({ then: [Op.get("a"), Op.get("b")] }).pipe(
 *     Effect.filterOrFail((result) => result.succeeded)
 *   )
 *   const found = [a.count, b.count] // => [1, 0]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const get = (key: string, options?: RangeOptions): Range => range(KeyRange.key(key), options)

/**
 * Reads the entries of a range.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const { responses } = yield* Kv.txn({
 *     then: [Op.put("jobs/1", "new"), Op.range(KeyRange.prefix("jobs/"), { countOnly: true })]
 *   })
 *   responses[1]?.count // => 1
 * })
 * ```
 *
 * @since 0.1.0
 */
export const range = (range: KeyRange.KeyRange, options?: RangeOptions): Range => ({ _tag: "Range", range, ...options })

/**
 * Writes a value. Bytes are copied, so the array can be reused.
 *
 * @example
 * ```ts
 * import { Compare, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.txn({ if: [Compare.missing("a")], then: [Op.put("a", "1"), Op.put("b", "2")] })
 *   yield* Kv.get("b") // => Option.some("2")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const put = (key: string, value: Value, options?: PutOptions): Put => new PutOp(key, value, options)

/** A class because of `toJSON` and `inspect`: operations are logged, and values may be secrets. */
class PutOp implements Put {
  readonly _tag = "Put" as const
  readonly key: string
  readonly value: Value
  readonly lease: bigint | undefined
  readonly previous: boolean | undefined

  constructor(key: string, value: Value, options: PutOptions | undefined) {
    this.key = key
    this.value = value instanceof Uint8Array ? new Uint8Array(value) : value
    const lease = options?.lease
    this.lease = Option.isOption(lease) ? Option.getOrUndefined(lease) : lease
    this.previous = options?.previous
  }

  toJSON(): unknown {
    return { _tag: "Put", key: this.key, value: "<redacted>", lease: this.lease?.toString() }
  }

  [NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

/**
 * Deletes one key. Deleting a missing key is a success.
 *
 * @example
 * ```ts
 * import { Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("old", "1")
 *   yield* Kv.txn({ then: [Op.delete("old"), Op.put("new", "1")] })
 *   yield* Kv.get("old") // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
const delete_ = (key: string, options?: DeleteOptions): Delete => deleteRange(KeyRange.key(key), options)

export { delete_ as delete }

/**
 * Deletes the keys of a range. Deleting nothing is a success.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("jobs/1", "new")
 *   yield* Kv.txn({ then: [Op.deleteRange(KeyRange.prefix("jobs/")), Op.put("cleared", "yes")] })
 *   yield* Kv.get("jobs/1") // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
export const deleteRange = (range: KeyRange.KeyRange, options?: DeleteOptions): Delete => ({
  _tag: "Delete",
  range,
  ...options
})

/**
 * The parts of a transaction; each may be left out.
 *
 * @since 0.1.0
 */
export interface TxnInput<Then extends ReadonlyArray<Op>, Else extends ReadonlyArray<Op>> {
  /** All must hold for `then` to run. Without conditions, `then` runs. */
  readonly if?: ReadonlyArray<Compare> | undefined
  /** The operations that are executed if all conditions hold. Default: none. */
  readonly then?: Then | undefined
  /** The operations that are executed otherwise. Default: none. */
  readonly else?: Else | undefined
}

/**
 * Runs `then` if all of `if` hold, else `else`: atomically, at one revision.
 *
 * **When to use**
 *
 * For a transaction inside a transaction, or for a backend. Applications call `Kv.txn`.
 *
 * **Gotchas**
 *
 * A transaction, nested ones included, may put a key only once, and may not both put and delete it. Each list may hold
 * 128 elements; a nested transaction may hold what the outer lists leave of that.
 *
 * @example
 * ```ts
 * import { Compare, Kv, Op } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const createOnce = Op.txn({ if: [Compare.missing("id")], then: [Op.put("id", "7")] })
 *   yield* Kv.txn({ then: [createOnce, Op.put("seen", "yes")] })
 *   yield* Kv.get("id") // => Option.some("7")
 * })
 * ```
 *
 * @since 0.1.0
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

/** Responses are classes because of `toJSON`: JSON has no bigints. */
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
  readonly responses: ReadonlyArray<Response>

  constructor(fields: Omit<TxnResponse, "_tag">) {
    this.revision = fields.revision
    this.succeeded = fields.succeeded
    this.responses = fields.responses
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

/**
 * Makes the response to a `Range`. For backends.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 *
 * Op.rangeResponse({ revision: 7n, entries: [], count: 0, more: false })._tag // => "Range"
 * ```
 *
 * @since 0.1.0
 */
export const rangeResponse = (fields: Omit<RangeResponse, "_tag">): RangeResponse => new RangeRecord(fields)

/**
 * Makes the response to a `Put`. For backends.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 * import { Option } from "effect"
 *
 * Op.putResponse({ revision: 7n, previous: Option.none() })._tag // => "Put"
 * ```
 *
 * @since 0.1.0
 */
export const putResponse = (fields: Omit<PutResponse, "_tag">): PutResponse => new PutRecord(fields)

/**
 * Makes the response to a `Delete`. For backends.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 *
 * Op.deleteResponse({ revision: 7n, deleted: 0, previous: [] })._tag // => "Delete"
 * ```
 *
 * @since 0.1.0
 */
export const deleteResponse = (fields: Omit<DeleteResponse, "_tag">): DeleteResponse => new DeleteRecord(fields)

/**
 * Makes the response to a `Txn`. For backends.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 *
 * Op.txnResponse({ revision: 7n, succeeded: true, responses: [] })._tag // => "Txn"
 * ```
 *
 * @since 0.1.0
 */
export const txnResponse = (fields: Omit<TxnResponse, "_tag">): TxnResponse => new TxnRecord(fields) as TxnResponse

/**
 * Whether an operation can change the store.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 *
 * Op.isWrite(Op.get("a")) // => false
 * Op.isWrite(Op.txn({ then: [Op.put("a", "1")] })) // => true
 * ```
 *
 * @since 0.1.0
 */
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
