/**
 * The footprint of an operation: its keys and its size, which decide with which other operations it can be batched.
 *
 * Only operations on single keys are batched. Their footprint is known before they are sent, so it is certain that no
 * two operations of a batch conflict.
 */
import type { Compare } from "../../values/Compare.ts"
import type { Value } from "../../values/Entry.ts"
import type * as Op from "../../values/Op.ts"
import { checkOp } from "../values/checkOp.ts"
import * as utf8 from "../values/utf8.ts"

/**
 * Operations of one kind may share a transaction. Deletes are apart from puts because a full store still accepts a
 * delete, but rejects every transaction with a put in it.
 */
export type BatchKind = "read" | "put" | "delete"

/** The keys that an operation reads and writes, and its size. */
export interface Footprint {
  readonly kind: BatchKind
  readonly reads: ReadonlyArray<string>
  readonly writes: ReadonlyArray<string>
  /** How many operations the surrounding transaction must leave for nested ones, counted as etcd does. */
  readonly room: number
  /** An upper bound of the bytes of its keys and values. */
  readonly bytes: number
}

export interface FootprintLimits {
  readonly maxOps: number
  readonly maxBytes: number
  /** Whether transactions, and puts that request the previous entry, may be batched. */
  readonly transactions: boolean
}

/** The footprint of an operation that can be batched; `undefined` for one that is sent alone. */
export const classify = (op: Op.Op, limits: FootprintLimits): Footprint | undefined => {
  // An invalid operation is sent alone: the backend rejects it, and no other operation is affected.
  if (!isBatchable(op, limits.transactions) || checkOp(op) !== undefined) return undefined
  const footprint = footprintOf(op)
  return footprint.bytes <= limits.maxBytes && footprint.room <= limits.maxOps / 2 ? footprint : undefined
}

const isBatchable = (op: Op.Op, transactions: boolean): boolean => {
  switch (op._tag) {
    case "Range":
      return op.range._tag === "Key" && op.revision === undefined && op.serializable !== true
    case "Put":
      // Recipes order lease-bound keys by create revision, so batching must not make two create revisions equal.
      return op.lease === undefined && (transactions || op.previous !== true)
    case "Delete":
      return op.range._tag === "Key"
    case "Txn":
      return transactions && op.then.length + op.else.length > 0 && op.if.every(isOfKey) &&
        op.then.every(isBatchableInTxn) &&
        op.else.every(isBatchableInTxn)
  }
}

const isOfKey = (compare: Compare): boolean => compare.target !== "CreatedBefore"

const isBatchableInTxn = (op: Op.Op): boolean => isBatchable(op, true)

const none: ReadonlyArray<string> = []

const footprintOf = (op: Op.Op): Footprint => {
  switch (op._tag) {
    case "Range": {
      const keys = keysOf(op)
      return { kind: "read", reads: keys, writes: none, room: 0, bytes: bytesOf(keys[0] ?? "") }
    }
    case "Put":
      return { kind: "put", reads: none, writes: [op.key], room: 0, bytes: bytesOf(op.key) + bytesOf(op.value) }
    case "Delete": {
      const keys = keysOf(op)
      return { kind: "delete", reads: none, writes: keys, room: 0, bytes: bytesOf(keys[0] ?? "") }
    }
    case "Txn":
      return footprintOfTxn(op)
  }
}

const keysOf = (op: Op.Range | Op.Delete): ReadonlyArray<string> => op.range._tag === "Key" ? [op.range.key] : none

const footprintOfTxn = (op: Op.Txn): Footprint => {
  const reads: Array<string> = []
  const writes: Array<string> = []
  let kind: BatchKind = "read"
  let room = 0
  let bytes = 0
  for (const compare of op.if) {
    bytes += sizeOfCompare(compare)
    if (compare.target !== "CreatedBefore") reads.push(compare.key)
  }
  for (const branch of [op.then, op.else]) {
    for (const inner of branch) {
      const footprint = footprintOf(inner)
      for (const key of footprint.reads) reads.push(key)
      for (const key of footprint.writes) writes.push(key)
      room = Math.max(room, footprint.room)
      bytes += footprint.bytes
      if (footprint.kind === "put" || kind === "read") kind = footprint.kind
    }
  }
  return { kind, reads, writes, room: room + Math.max(op.if.length, op.then.length, op.else.length), bytes }
}

const sizeOfCompare = (compare: Compare): number =>
  compare.target === "CreatedBefore"
    ? 0
    : bytesOf(compare.key) + (compare.target === "Value" ? bytesOf(compare.value) : 0)

/** The bytes of a message besides the key and the value in it. */
const overhead = 16

const bytesOf = (value: Value): number => utf8.maxBytes(value) + overhead
