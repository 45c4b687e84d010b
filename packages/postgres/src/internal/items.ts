/**
 * The rows that the functions of the schema return.
 */
import * as Entry from "@effect-kv/core/Entry"
import * as KvError from "@effect-kv/core/KvError"
import * as Option from "effect/Option"
import { keyOf } from "./bytes.ts"
import type { Position } from "./identity.ts"
import { kind } from "./schema/items.ts"
import type { Row } from "./statement.ts"

export { kind }

/** A row, by the position of its columns. */
export type Item = readonly [
  kind: number,
  flag: boolean | null,
  n: bigint | null,
  key: Uint8Array | null,
  value: Uint8Array | null,
  createRevision: bigint | null,
  modRevision: bigint | null,
  version: bigint | null,
  lease: bigint | null
]

export const nOf = (item: Item): bigint => item[2] ?? 0n

export const entryOf = ([, , , key, value, createRevision, modRevision, version, lease]: Item): Entry.Entry =>
  Entry.make({
    key: keyOf(key!),
    value: value!,
    createRevision: createRevision!,
    modRevision: modRevision!,
    version: Number(version),
    lease: Entry.leaseOf(lease!)
  })

/** The last items that show the position of the store. A rejection may have one of these kinds, without an epoch. */
const positioned: ReadonlySet<number> = new Set([kind.revision, kind.void, kind.future])

/** The position of the store, which the last item shows; `undefined` for a rejected request. */
export const positionOf = (items: ReadonlyArray<Item>): Position | undefined => {
  const last = items[items.length - 1]
  return last !== undefined && positioned.has(last[0]) && last[8] !== null
    ? { revision: last[6]!, epoch: last[8] }
    : undefined
}

export const leaseNotFound = (id: bigint): KvError.KvError =>
  KvError.make(
    new KvError.LeaseNotFound({
      message: `the lease ${id.toString(16)} does not exist: it expired, was revoked or was never granted`
    })
  )

/**
 * Whether the store rejected a write as void: it applied nothing of it. The response is that of any function that writes.
 */
export const isVoid = (rows: ReadonlyArray<Row>): boolean => rows[0]?.[0] === kind.void

/** Why a write fails that is void, although its client knows what the store showed it. No store responds like that. */
export const declaredVoid = (): KvError.KvError =>
  KvError.make(
    new KvError.Unavailable({ message: "the store rejects the write, as if it had been given up and came too late" })
  )

export const compactedAt = (revision: bigint): KvError.KvError =>
  KvError.make(new KvError.Compacted({ compactRevision: Option.some(revision) }))

/** Why the store rejected the request; `undefined` if it did not. */
export const rejection = (items: ReadonlyArray<Item>): KvError.KvError | undefined => {
  const [item] = items
  switch (item?.[0]) {
    case kind.leaseNotFound:
      return leaseNotFound(nOf(item))
    case kind.compacted:
      return compactedAt(nOf(item))
    case kind.future:
      return KvError.make(
        new KvError.FutureRevision({
          message: `revision ${item[6]} has not happened yet; the store is at ${nOf(item)}`
        })
      )
    default:
      return undefined
  }
}
