/**
 * A write of one key, on a condition or none: what recipes write most, for which the schema has a function of its own.
 */
import type { Compare } from "@effect-kv/core/Compare"
import * as Entry from "@effect-kv/core/Entry"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"
import { bytesOf, type Interval, intervalOf, keyOf } from "./bytes.ts"
import type { Position } from "./identity.ts"
import { kind, leaseNotFound } from "./items.ts"
import type { Row } from "./statement.ts"

/** The parameters of the function. */
export interface EntryWrite {
  readonly condition: Condition | undefined
  readonly key: Uint8Array
  /** `undefined`: the key is deleted. */
  readonly value: Uint8Array | undefined
  /** 0: none. */
  readonly lease: bigint
  /** The range whose newest entry is read before the write. */
  readonly newestIn: Interval | undefined
}

interface Condition {
  readonly key: Uint8Array
  readonly target: "CreateRevision" | "ModRevision"
  readonly revision: bigint
}

/** The operation as such a write; `undefined` if it is another. */
export const of = (op: Op.Op): EntryWrite | undefined => {
  if (op._tag !== "Txn") return isEntryWrite(op) ? make(undefined, undefined, op) : undefined
  const read = op.then.length === 2 ? op.then[0] : undefined
  const write = op.then[op.then.length - 1]
  if (
    op.if.length > 1 || op.else.length > 0 || op.then.length > 2 || write === undefined || !isEntryWrite(write) ||
    read !== undefined && !isOfNewest(read)
  ) return undefined
  const condition = op.if.length === 0 ? undefined : conditionOf(op.if[0]!)
  return op.if.length > 0 && condition === undefined ? undefined : make(condition, read, write)
}

type Write =
  | Op.Put
  | (Op.Delete & { readonly range: { readonly _tag: "Key" } })

const isEntryWrite = (op: Op.Op): op is Write =>
  (op._tag === "Put" || op._tag === "Delete" && op.range._tag === "Key") && op.previous !== true

type Newest = Op.Range

/** Whether an operation reads the key that was created last in a range, and nothing else. */
export const isOfNewest = (op: Op.Op): op is Newest =>
  op._tag === "Range" && op.range._tag !== "Key" && op.limit === 1 && op.keysOnly === true && op.countOnly !== true &&
  op.order?.by === "createRevision" && op.order.direction === "descending" && op.revision === undefined &&
  op.minModRevision === undefined && op.maxModRevision === undefined && op.minCreateRevision === undefined &&
  op.maxCreateRevision === undefined

const conditionOf = (compare: Compare): Condition | undefined =>
  (compare.target === "CreateRevision" || compare.target === "ModRevision") && compare.operator === "="
    ? { key: bytesOf(compare.key), target: compare.target, revision: compare.value }
    : undefined

const make = (condition: Condition | undefined, read: Newest | undefined, write: Write): EntryWrite => ({
  condition,
  key: bytesOf(write._tag === "Put" ? write.key : write.range.key),
  value: write._tag === "Put" ? bytesOf(write.value) : undefined,
  lease: write._tag === "Put" ? write.lease ?? 0n : 0n,
  newestIn: read === undefined ? undefined : intervalOf(read.range)
})

/** The size of its keys and values, in bytes. */
export const sizeOf = ({ condition, key, newestIn, value }: EntryWrite): number =>
  (condition?.key.length ?? 0) + key.length + (value?.length ?? 0) +
  (newestIn === undefined ? 0 : newestIn.start.length + newestIn.end.length)

type EntryWriteRow = readonly [
  kind: number,
  holds: boolean | null,
  n: bigint | null,
  revision: bigint,
  epoch: bigint,
  key: Uint8Array | null,
  createRevision: bigint | null,
  modRevision: bigint | null,
  version: bigint | null,
  count: bigint | null
]

/** The edge to SQL. */
const rowOf = (rows: ReadonlyArray<Row>): EntryWriteRow => rows[0] as unknown as EntryWriteRow

/** The position of the store; `undefined` for a rejected request. */
export const positionIn = (rows: ReadonlyArray<Row>): Position | undefined => {
  const row = rowOf(rows)
  return row[0] === kind.leaseNotFound ? undefined : { revision: row[3], epoch: row[4] }
}

/** The response, or why the store rejected the request. */
export const responseOf = (op: Op.Op, rows: ReadonlyArray<Row>): Op.Response<Op.Op> | KvError.KvError => {
  const row = rowOf(rows)
  const [found, holds, n, revision] = row
  if (found === kind.leaseNotFound) return leaseNotFound(n!)
  if (op._tag !== "Txn") return responseTo(op, row)
  return holds === true
    ? Op.txnResponse({ revision, succeeded: true, responses: op.then.map((inner) => responseTo(inner, row)) })
    : Op.txnResponse({ revision, succeeded: false, responses: [] })
}

const responseTo = (op: Op.Op, row: EntryWriteRow): Op.Response<Op.Op> => {
  const [, , n, revision, , key, createRevision, modRevision, version, count] = row
  switch (op._tag) {
    case "Put":
      return Op.putResponse({ revision, previous: Option.none() })
    case "Delete":
      return Op.deleteResponse({ revision, deleted: Number(n), previous: [] })
    default: {
      const entries = key === null ? [] : [Entry.make({
        key: keyOf(key),
        value: new Uint8Array(0),
        createRevision: createRevision!,
        modRevision: modRevision!,
        version: Number(version),
        lease: Entry.leaseOf(0n)
      })]
      return Op.rangeResponse({ revision, entries, count: Number(count), more: count! > 1n })
    }
  }
}
