/**
 * The limits of a request: it must be valid, with no more operations and bytes than allowed.
 */
import * as Check from "@effect-kv/core/Check"
import type { Compare } from "@effect-kv/core/Compare"
import type { Value } from "@effect-kv/core/Entry"
import type * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import { fromRange } from "./interval.ts"
import { byteLength } from "./values.ts"

export interface RequestLimits {
  readonly maxTxnOps: number
  readonly maxRequestBytes: number
}

/** etcd accepts reads this much larger than writes: its gRPC server's allowance for overhead. */
const readAllowance = 512 * 1024

/** Why the store rejects the operation; `undefined` if it does not. */
export const rejection = (limits: RequestLimits, op: Op.Op): KvError.KvError | undefined => {
  const problem = Check.op(op, limits)
  if (problem !== undefined) return KvError.make(new KvError.InvalidRequest({ message: problem }))
  return requestBytes(op, Check.maxBytes) <= limits.maxRequestBytes ? undefined : oversize(limits, op)
}

const oversize = (limits: RequestLimits, op: Op.Op): KvError.KvError | undefined => {
  const size = requestBytes(op, byteLength)
  const allowed = Op.isWrite(op) ? limits.maxRequestBytes : limits.maxRequestBytes + readAllowance
  return size <= allowed ? undefined : KvError.make(
    new KvError.RequestTooLarge({ message: `the request has ${size} bytes, but ${allowed} are allowed` })
  )
}

/** The bytes of all keys, bounds and values, as `measure` counts them. */
const requestBytes = (op: Op.Op, measure: (value: Value) => number): number => {
  switch (op._tag) {
    case "Put":
      return measure(op.key) + measure(op.value)
    case "Range":
    case "Delete":
      return rangeBytes(op.range, measure)
    case "Txn": {
      let size = 0
      for (const compare of op.if) size += sizeOfCompare(compare, measure)
      for (const inner of op.then) size += requestBytes(inner, measure)
      for (const inner of op.else) size += requestBytes(inner, measure)
      return size
    }
  }
}

const rangeBytes = (range: KeyRange.KeyRange, measure: (value: Value) => number): number => {
  if (range._tag === "Key") return measure(range.key)
  const { end = "", start } = fromRange(range)
  return measure(start) + measure(end)
}

const sizeOfCompare = (compare: Compare, measure: (value: Value) => number): number =>
  compare.target === "CreatedBefore"
    ? rangeBytes(compare.range, measure)
    : measure(compare.key) + (compare.target === "Value" ? measure(compare.value) : 0)
