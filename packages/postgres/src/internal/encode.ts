/**
 * The encoding of an operation for the functions of the schema: JSON that refers to keys and values by their position,
 * from 1, in an array of bytes.
 */
import * as Check from "@effect-kv/core/Check"
import type { Compare } from "@effect-kv/core/Compare"
import type { Value } from "@effect-kv/core/Entry"
import type * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import { bytesOf, intervalOf } from "./bytes.ts"
import * as EntryWrite from "./entryWrite.ts"

type Json = Readonly<Record<string, unknown>>

/** An operation as parameters of a statement. */
export interface Encoded {
  readonly json: Json
  readonly data: ReadonlyArray<Uint8Array>
  /** Instead of both, if the operation only puts keys, without conditions: each with its value. */
  readonly puts?: Puts | undefined
  /** Instead of both, if the operation writes one key. */
  readonly entryWrite?: EntryWrite.EntryWrite | undefined
}

export interface Puts {
  readonly keys: ReadonlyArray<Uint8Array>
  readonly values: ReadonlyArray<Uint8Array>
}

/** etcd's defaults, which the memory backend has too. */
const maxTxnOps = 128
const maxRequestBytes = 1.5 * 1024 * 1024
const readAllowance = 512 * 1024

/** Encodes an operation, or returns why it is rejected. */
export const encode = (op: Op.Op): Encoded | KvError.KvError => {
  const problem = Check.op(op, { maxTxnOps })
  if (problem !== undefined) return KvError.make(new KvError.InvalidRequest({ message: problem }))
  const data = new Data()
  const puts = putsOf(op)
  if (puts !== undefined) {
    const keys = puts.map(({ key }) => data.parts[data.add(key) - 1]!)
    const values = puts.map(({ value }) => data.parts[data.add(value) - 1]!)
    return data.size <= maxRequestBytes ? { json: {}, data: [], puts: { keys, values } } : tooLarge(data.size)
  }
  const entryWrite = EntryWrite.of(op)
  if (entryWrite !== undefined) {
    const size = EntryWrite.sizeOf(entryWrite)
    return size <= maxRequestBytes ? { json: {}, data: [], entryWrite } : tooLarge(size)
  }
  const json = {
    ...encodeOp(op, data),
    ...data.leases(),
    ...flag("flat", op._tag === "Txn" && ![...op.then, ...op.else].some(isTxn)),
    ...flag("past", data.hasPastReads)
  }
  const allowed = Op.isWrite(op) ? maxRequestBytes : maxRequestBytes + readAllowance
  return data.size <= allowed ? { json, data: data.parts } : tooLarge(data.size, allowed)
}

const tooLarge = (size: number, allowed = maxRequestBytes): KvError.KvError =>
  KvError.make(new KvError.RequestTooLarge({ message: `the request has ${size} bytes, but ${allowed} are allowed` }))

/** The puts of an operation that does nothing else, under no condition; `undefined` for any other operation. */
const putsOf = (op: Op.Op): ReadonlyArray<Op.Put> | undefined =>
  isPlainPut(op)
    ? [op]
    : op._tag === "Txn" && op.if.length === 0 && op.then.length > 0 && op.then.every(isPlainPut)
    ? op.then
    : undefined

const isPlainPut = (op: Op.Op): op is Op.Put => op._tag === "Put" && op.lease === undefined && op.previous !== true

const isTxn = (op: Op.Op): boolean => op._tag === "Txn"

/** Encodes the conditions of a transaction, which must be valid. */
export const encodeConditions = (
  conditions: ReadonlyArray<Compare>
): { readonly json: ReadonlyArray<Json>; readonly data: ReadonlyArray<Uint8Array> } => {
  const data = new Data()
  return { json: conditions.map((condition) => encodeCompare(condition, data)), data: data.parts }
}

class Data {
  readonly parts: Array<Uint8Array> = []
  size = 0
  readonly #leases = new Set<bigint>()
  hasPastReads = false

  add(value: Value): number {
    const bytes = bytesOf(value)
    this.size += bytes.length
    return this.parts.push(bytes)
  }

  addLease(id: bigint): void {
    this.#leases.add(id)
  }

  /** That there are leases, and the lease if it is one. */
  leases(): Json {
    const [first] = this.#leases
    return first === undefined ? {} : { leases: 1, ...(this.#leases.size === 1 ? { lease: first.toString() } : {}) }
  }

  addRange(range: KeyRange.KeyRange): Json {
    const { end, start } = intervalOf(range)
    return { k: this.add(start), e: range._tag === "Key" ? this.parts.push(end) : this.add(end) }
  }
}

const encodeOp = (op: Op.Op, data: Data): Json => {
  switch (op._tag) {
    case "Range":
      data.hasPastReads ||= op.revision !== undefined
      return { t: "r", ...data.addRange(op.range), ...rangeOptions(op), ...shapeOf(op) }
    case "Put":
      if (op.lease !== undefined) data.addLease(op.lease)
      return {
        t: "p",
        k: data.add(op.key),
        v: data.add(op.value),
        ...(op.lease === undefined ? {} : { lease: op.lease.toString() }),
        ...flag("pv", op.previous)
      }
    case "Delete":
      return {
        t: "d",
        ...data.addRange(op.range),
        ...flag("pv", op.previous),
        ...flag("one", op.range._tag === "Key" && op.previous !== true)
      }
    case "Txn":
      return {
        t: "t",
        if: op.if.map((compare) => encodeCompare(compare, data)),
        then: op.then.map((inner) => ({ ...encodeOp(inner, data), ...flag("new", isOfMissing(inner, op.if)) })),
        else: op.else.map((inner) => encodeOp(inner, data))
      }
  }
}

/** Whether an operation puts a key that a condition requires not to exist. */
const isOfMissing = (op: Op.Op, conditions: ReadonlyArray<Compare>): boolean =>
  op._tag === "Put" &&
  conditions.some((compare) =>
    compare.target === "CreateRevision" && compare.operator === "=" && compare.value === 0n && compare.key === op.key
  )

const orders = { key: "k", version: "v", modRevision: "m", createRevision: "c" } as const

const rangeOptions = (op: Op.Range): Json => ({
  ...(op.limit === undefined ? {} : { l: op.limit }),
  ...(op.order === undefined ? {} : { by: orders[op.order.by] }),
  ...flag("desc", op.order?.direction === "descending"),
  ...flag("ko", op.keysOnly),
  ...flag("co", op.countOnly),
  ...(op.revision === undefined ? {} : { rev: op.revision.toString() }),
  ...filters(op)
})

/** The reads for which the functions have a statement of their own: of one key, and of the key created last. */
const shapeOf = (op: Op.Range): Json =>
  op.revision !== undefined || op.countOnly === true || op.minModRevision !== undefined ||
    op.maxModRevision !== undefined || op.minCreateRevision !== undefined
    ? {}
    : op.range._tag === "Key"
    ? flag("one", op.limit === undefined && op.maxCreateRevision === undefined)
    : flag(
      "young",
      op.limit === 1 && op.keysOnly === true && op.order?.by === "createRevision" && op.order.direction === "descending"
    )

const filters = (op: Op.Range): Json => {
  const given = Object.entries({
    mm: op.minModRevision,
    xm: op.maxModRevision,
    mc: op.minCreateRevision,
    xc: op.maxCreateRevision
  }).flatMap(([name, value]) => value === undefined ? [] : [[name, value.toString()]])
  return given.length === 0 ? {} : { f: 1, ...Object.fromEntries(given) }
}

const flag = (name: string, value: boolean | undefined): Json => value === true ? { [name]: 1 } : {}

const targets = { Value: "v", Version: "n", CreateRevision: "c", ModRevision: "m", Lease: "l" } as const

const encodeCompare = (compare: Compare, data: Data): Json => {
  if (compare.target === "CreatedBefore") {
    return { c: "b", ...data.addRange(compare.range), n: compare.revision.toString() }
  }
  const { key, operator, target } = compare
  const subject = { c: targets[target], k: data.add(key), o: operator }
  return compare.target === "Value"
    ? { ...subject, v: data.add(compare.value) }
    : { ...subject, n: compare.value.toString() }
}
