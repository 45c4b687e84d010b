/**
 * The codec of requests. `responses.ts` decodes the responses.
 *
 * Before it writes a byte, etcd3's protobuf library makes a buffer of every key, a `Long` of every number and two
 * objects of every message. This encoder avoids that. Fields are numbered as in etcd's `rpc.proto`.
 *
 * Keys are strings here and bytes in etcd. Another client's key that is not UTF-8 has no string, so a response with
 * such a key cannot be returned. Decoding it throws `NotUtf8`, which the receiver turns into a typed error.
 */
import type { Compare, OfKey, Operator } from "@effect-kv/core/Compare"
import type { KeyRange } from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import { Writer } from "./wireWriter.ts"

/** A key in a response is not UTF-8. */
export class NotUtf8 extends Error {
  constructor(key: Uint8Array) {
    super(`the key 0x${Buffer.from(key).toString("hex")} is not UTF-8; this library cannot name it`)
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** The string whose UTF-8 encoding the bytes are. */
export const decodeKey = (bytes: Buffer): string => {
  const key = bytes.toString("utf8")
  // Invalid UTF-8 decodes to U+FFFD, but a key may also contain that character.
  if (!key.includes("\uFFFD")) return key
  try {
    return utf8.decode(bytes)
  } catch {
    throw new NotUtf8(bytes)
  }
}

/** The bounds of a range in an etcd request. */
export interface Bounds {
  readonly key: Buffer
  readonly range_end?: Buffer
}

const zero = Buffer.from([0])
const one = Buffer.from([1])

/** The bounds of a range. `\0` as `key` means "from the first key", and as `range_end` it means "to the last key". */
export const bounds = (range: KeyRange): Bounds => {
  switch (range._tag) {
    case "Key":
      return { key: Buffer.from(range.key) }
    case "HalfOpen":
      // No key is less than "\0", but as an end bound it would mean all keys.
      if (range.end === "\0") return { key: one, range_end: one }
      return { key: lowerBound(range.start), range_end: Buffer.from(range.end) }
    case "Prefix":
      return { key: lowerBound(range.from), range_end: prefixEnd(range.prefix) }
  }
}

const lowerBound = (start: string): Buffer => start === "" ? zero : Buffer.from(start)

/** The smallest byte string greater than every key with the prefix. No UTF-8 text ends with the byte 0xff. */
const prefixEnd = (prefix: string): Buffer => {
  if (prefix === "") return zero
  const end = Buffer.from(prefix)
  end[end.length - 1]! += 1
  return end
}

/** One shared writer suffices, because encoding is synchronous. */
const writer = new Writer()

const encoded = <O extends Op.Op>(write: (op: O) => void) => (op: O): Buffer => {
  write(op)
  return writer.finish()
}

const writeRange = (op: Op.Range): void => {
  writer.int64Field(0x68, op.maxCreateRevision)
  writer.int64Field(0x60, op.minCreateRevision)
  writer.int64Field(0x58, op.maxModRevision)
  writer.int64Field(0x50, op.minModRevision)
  writer.flag(0x48, op.countOnly)
  writer.flag(0x40, op.keysOnly)
  writer.flag(0x38, op.serializable)
  // Ascending by key is etcd's default. If requested, etcd would sort again.
  if (op.order !== undefined && !(op.order.by === "key" && op.order.direction !== "descending")) {
    writer.number(0x30, sortTargets[op.order.by])
    writer.number(0x28, op.order.direction === "descending" ? 2 : 1)
  }
  writer.int64Field(0x20, op.revision)
  if (op.limit !== undefined) writer.number(0x18, op.limit)
  writeBounds(op.range)
}

/** `RangeRequest.SortTarget` */
const sortTargets: Record<Op.OrderBy, number> = { key: 0, version: 1, createRevision: 2, modRevision: 3 }

const writePut = (op: Op.Put): void => {
  writer.flag(0x20, op.previous)
  writer.int64Field(0x18, op.lease)
  writer.content(0x12, op.value)
  writer.content(0x0a, op.key)
}

const writeDelete = (op: Op.Delete): void => {
  writer.flag(0x18, op.previous)
  writeBounds(op.range)
}

const writeTxn = (op: Op.Txn): void => {
  for (let i = op.else.length; i-- > 0;) writeOp(0x1a, op.else[i]!)
  for (let i = op.then.length; i-- > 0;) writeOp(0x12, op.then[i]!)
  for (let i = op.if.length; i-- > 0;) {
    const before = writer.length
    writeCompare(op.if[i]!)
    writer.message(0x0a, before)
  }
}

/** `RequestOp` */
const writeOp = (tag: number, op: Op.Op): void => {
  const before = writer.length
  switch (op._tag) {
    case "Range":
      writeRange(op)
      writer.message(0x0a, before)
      break
    case "Put":
      writePut(op)
      writer.message(0x12, before)
      break
    case "Delete":
      writeDelete(op)
      writer.message(0x1a, before)
      break
    case "Txn":
      writeTxn(op)
      writer.message(0x22, before)
      break
  }
  writer.message(tag, before)
}

/** `Compare.CompareResult` */
const operators: Record<Operator, number> = { "=": 0, ">": 1, "<": 2, "!=": 3 }

const writeCompare = (compare: Compare): void => {
  if (compare.target === "CreatedBefore") return writeCreatedBefore(compare.range, compare.revision)
  const target = writeTarget(compare)
  writer.content(0x1a, compare.key)
  writer.number(0x10, target)
  writer.number(0x08, operators[compare.operator])
}

/** A condition on every key of a range. For an empty range etcd compares 0. */
const writeCreatedBefore = (range: KeyRange, revision: bigint): void => {
  const { key, range_end } = bounds(range)
  if (range_end !== undefined) writer.content(rangeEndTag, range_end)
  writer.int64Field(0x28, revision)
  writer.content(0x1a, key)
  writer.number(0x10, 1)
  writer.number(0x08, operators["<"])
}

/** `Compare.range_end` is field 64. */
const rangeEndTag = 64 << 3 | 2

/** Writes the value to compare with, and returns the `Compare.CompareTarget`. */
const writeTarget = (compare: OfKey): number => {
  switch (compare.target) {
    case "Version":
      writer.int64(BigInt(compare.value))
      writer.varint(0x20)
      return 0
    case "CreateRevision":
      writer.int64Field(0x28, compare.value)
      return 1
    case "ModRevision":
      writer.int64Field(0x30, compare.value)
      return 2
    case "Value":
      writer.content(0x3a, compare.value)
      return 3
    case "Lease":
      writer.int64Field(0x40, compare.value)
      return 4
  }
}

const writeBounds = (range: KeyRange): void => {
  if (range._tag === "Key") return writer.content(0x0a, range.key)
  const { key, range_end } = bounds(range)
  if (range_end !== undefined) writer.content(0x12, range_end)
  writer.content(0x0a, key)
}

/** Encodes a `RangeRequest`. */
export const encodeRange = encoded(writeRange)

/** Encodes a `PutRequest`. */
export const encodePut = encoded(writePut)

/** Encodes a `DeleteRangeRequest`. */
export const encodeDelete = encoded(writeDelete)

/** Encodes a `TxnRequest`. */
export const encodeTxn = encoded(writeTxn)
