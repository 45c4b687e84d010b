/**
 * Which operations can be batched with others, and what of them decides with which.
 *
 * Only what names its keys one by one: then it is known what it touches, and no answer can hold a key of somebody else's.
 */
import type { Compare } from "../../values/Compare.ts"
import type { Value } from "../../values/Entry.ts"
import type * as Op from "../../values/Op.ts"
import { checkOp } from "../values/checkOp.ts"
import * as utf8 from "../values/utf8.ts"

/** Operations that may share a transaction: a store that is full takes deletes, but no transaction with a put in it. */
export type Lane = "read" | "put" | "delete"

/** What an operation touches and takes. */
export interface Footprint {
  readonly lane: Lane
  readonly reads: ReadonlyArray<string>
  readonly writes: ReadonlyArray<string>
  /** How many operations must be left by the transaction around it, by etcd's counting. */
  readonly room: number
  /** The bytes of its keys and values, at most. */
  readonly bytes: number
}

export interface Limits {
  readonly maxOps: number
  readonly maxBytes: number
  /** Whether transactions, and puts that ask for the previous entry, may be batched. */
  readonly transactions: boolean
}

/** The footprint of an operation that can be batched, `undefined` for one that goes alone. */
export const classify = (op: Op.Op, limits: Limits): Footprint | undefined => {
  // What is wrong is told by the backend, and must not spoil anything else.
  if (!isFoldable(op, limits.transactions) || checkOp(op) !== undefined) return undefined
  const footprint = footprintOf(op)
  return footprint.bytes <= limits.maxBytes && footprint.room <= limits.maxOps / 2 ? footprint : undefined
}

const isFoldable = (op: Op.Op, transactions: boolean): boolean => {
  switch (op._tag) {
    case "Range":
      return op.range._tag === "Key" && op.revision === undefined && op.serializable !== true
    case "Put":
      // Queues are ordered by the create revisions of lease-bound keys, so batching must not make two of them equal.
      return op.lease === undefined && (transactions || op.previous !== true)
    case "Delete":
      return op.range._tag === "Key"
    case "Txn":
      return transactions && op.then.length + op.else.length > 0 && op.if.every(namesItsKey) &&
        op.then.every(isFoldableInTxn) &&
        op.else.every(isFoldableInTxn)
  }
}

const namesItsKey = (compare: Compare): boolean => compare.target !== "CreatedBefore"

const isFoldableInTxn = (op: Op.Op): boolean => isFoldable(op, true)

const none: ReadonlyArray<string> = []

const footprintOf = (op: Op.Op): Footprint => {
  switch (op._tag) {
    case "Range": {
      const keys = keysOf(op)
      return { lane: "read", reads: keys, writes: none, room: 0, bytes: bytesOf(keys[0] ?? "") }
    }
    case "Put":
      return { lane: "put", reads: none, writes: [op.key], room: 0, bytes: bytesOf(op.key) + bytesOf(op.value) }
    case "Delete": {
      const keys = keysOf(op)
      return { lane: "delete", reads: none, writes: keys, room: 0, bytes: bytesOf(keys[0] ?? "") }
    }
    case "Txn":
      return footprintOfTxn(op)
  }
}

const keysOf = (op: Op.Range | Op.Delete): ReadonlyArray<string> => op.range._tag === "Key" ? [op.range.key] : none

const footprintOfTxn = (op: Op.Txn): Footprint => {
  const reads: Array<string> = []
  const writes: Array<string> = []
  let lane: Lane = "read"
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
      if (footprint.lane === "put" || lane === "read") lane = footprint.lane
    }
  }
  return { lane, reads, writes, room: room + Math.max(op.if.length, op.then.length, op.else.length), bytes }
}

const sizeOfCompare = (compare: Compare): number =>
  compare.target === "CreatedBefore"
    ? 0
    : bytesOf(compare.key) + (compare.target === "Value" ? bytesOf(compare.value) : 0)

/** What the message around a key and a value takes besides them. */
const overhead = 16

const bytesOf = (value: Value): number => utf8.maxBytes(value) + overhead
