/**
 * Operations as etcd's messages. Responses are in `responses.ts`.
 *
 * Keys are strings here and bytes there. A key of somebody else's that is not UTF-8 has no string that stands for it, so
 * an answer that holds one cannot be given: `NotUtf8` is thrown, and turned into a failure where answers are received.
 */
import type { Compare, Operator } from "@effect-kv/core/Compare"
import type * as Entry from "@effect-kv/core/Entry"
import type { KeyRange } from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import * as etcd3 from "etcd3"

/** A key in an answer is not UTF-8. */
export class NotUtf8 extends Error {
  constructor(key: Uint8Array) {
    super(`the key 0x${Buffer.from(key).toString("hex")} is not UTF-8; this library cannot name it`)
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The key that the bytes stand for. */
export const decodeKey = (bytes: Buffer): string => {
  const key = bytes.toString("utf8")
  // What is not UTF-8 decodes to U+FFFD, which can be meant as well.
  if (!key.includes("\uFFFD")) return key
  try {
    return utf8.decode(bytes)
  } catch {
    throw new NotUtf8(bytes)
  }
}

const encodeValue = (value: Entry.Value): Buffer =>
  typeof value === "string" ? Buffer.from(value) : Buffer.from(value.buffer, value.byteOffset, value.byteLength)

/** The bounds of a range, as every request of etcd's has them. */
export interface Bounds {
  readonly key: Buffer
  readonly range_end?: Buffer
}

const zero = Buffer.from([0])
const one = Buffer.from([1])

/** The range's bounds. `\0` stands for "from the beginning" as `key`, and for "to the end" as `range_end`. */
export const bounds = (range: KeyRange): Bounds => {
  switch (range._tag) {
    case "Key":
      return { key: Buffer.from(range.key) }
    case "HalfOpen":
      // No key is less than "\0"; but as a bound it would mean all keys.
      if (range.end === "\0") return { key: one, range_end: one }
      return { key: lowerBound(range.start), range_end: Buffer.from(range.end) }
    case "Prefix":
      return { key: lowerBound(range.from), range_end: prefixEnd(range.prefix) }
  }
}

const lowerBound = (start: string): Buffer => start === "" ? zero : Buffer.from(start)

/** The least bytes greater than all that begin with the prefix. The last byte of UTF-8 is never 0xff. */
const prefixEnd = (prefix: string): Buffer => {
  if (prefix === "") return zero
  const end = Buffer.from(prefix)
  end[end.length - 1]! += 1
  return end
}

const sortTargets: Record<Op.OrderBy, etcd3.SortTarget> = {
  key: etcd3.SortTarget.Key,
  createRevision: etcd3.SortTarget.Create,
  modRevision: etcd3.SortTarget.Mod,
  version: etcd3.SortTarget.Version
}

export const encodeRange = (op: Op.Range): etcd3.IRangeRequest => {
  const request: etcd3.IRangeRequest = bounds(op.range)
  if (op.limit !== undefined) request.limit = op.limit
  // Ascending by key is what etcd does by itself; asked for, it would sort once more.
  if (op.order !== undefined && !(op.order.by === "key" && op.order.direction !== "descending")) {
    request.sort_target = sortTargets[op.order.by]
    request.sort_order = op.order.direction === "descending" ? etcd3.SortOrder.Descend : etcd3.SortOrder.Ascend
  }
  if (op.keysOnly === true) request.keys_only = true
  if (op.countOnly === true) request.count_only = true
  if (op.revision !== undefined) request.revision = op.revision.toString()
  if (op.serializable === true) request.serializable = true
  if (op.minModRevision !== undefined) request.min_mod_revision = op.minModRevision.toString()
  if (op.maxModRevision !== undefined) request.max_mod_revision = op.maxModRevision.toString()
  if (op.minCreateRevision !== undefined) request.min_create_revision = op.minCreateRevision.toString()
  if (op.maxCreateRevision !== undefined) request.max_create_revision = op.maxCreateRevision.toString()
  return request
}

export const encodePut = (op: Op.Put): etcd3.IPutRequest => {
  const request: etcd3.IPutRequest = { key: Buffer.from(op.key), value: encodeValue(op.value) }
  if (op.lease !== undefined) request.lease = op.lease.toString()
  if (op.previous === true) request.prev_kv = true
  return request
}

export const encodeDelete = (op: Op.Delete): etcd3.IDeleteRangeRequest => {
  const request: etcd3.IDeleteRangeRequest = bounds(op.range)
  if (op.previous === true) request.prev_kv = true
  return request
}

export const encodeTxn = (op: Op.Txn): etcd3.ITxnRequest => ({
  compare: op.if.map(encodeCompare),
  success: op.then.map(encodeOp),
  failure: op.else.map(encodeOp)
})

const encodeOp = (op: Op.Op): etcd3.IRequestOp => {
  switch (op._tag) {
    case "Range":
      return { request_range: encodeRange(op) }
    case "Put":
      return { request_put: encodePut(op) }
    case "Delete":
      return { request_delete_range: encodeDelete(op) }
    case "Txn":
      return { request_txn: encodeTxn(op) }
  }
}

const operators: Record<Operator, etcd3.CompareResult> = {
  "=": etcd3.CompareResult.Equal,
  "!=": etcd3.CompareResult.NotEqual,
  "<": etcd3.CompareResult.Less,
  ">": etcd3.CompareResult.Greater
}

const encodeCompare = (compare: Compare): etcd3.ICompare => {
  const key = Buffer.from(compare.key)
  const result = operators[compare.operator]
  switch (compare.target) {
    case "Value":
      return { key, result, target: etcd3.CompareTarget.Value, value: encodeValue(compare.value) }
    case "Version":
      return { key, result, target: etcd3.CompareTarget.Version, version: compare.value }
    case "CreateRevision":
      return { key, result, target: etcd3.CompareTarget.Create, create_revision: compare.value.toString() }
    case "ModRevision":
      return { key, result, target: etcd3.CompareTarget.Mod, mod_revision: compare.value.toString() }
    case "Lease":
      return { key, result, target: etcd3.CompareTarget.Lease, lease: compare.value.toString() }
  }
}
