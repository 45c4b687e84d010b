/**
 * Reads: the response to a `Range`, by etcd's rules for limits, orders and filters.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"
import { fromRange, singleKey } from "./interval.ts"
import type { Mvcc } from "./mvcc.ts"
import { toEntry, toKeyEntry, type Version } from "./version.ts"

/** Why the store cannot be read at the revision; `undefined` if it can. */
export const unreadable = (mvcc: Mvcc, revision: bigint | undefined): KvError.KvError | undefined => {
  if (revision === undefined) return undefined
  if (revision > mvcc.revisionId) {
    return KvError.make(
      new KvError.FutureRevision({
        message: `revision ${revision} has not happened yet; the store is at ${mvcc.revisionId}`
      })
    )
  }
  return revision < mvcc.compacted
    ? KvError.make(new KvError.Compacted({ compactRevision: Option.some(BigInt(mvcc.compacted)) }))
    : undefined
}

/** Executes a read. Its revision must be readable. */
export const range = (mvcc: Mvcc, op: Op.Range): Op.RangeResponse => {
  const at = op.revision === undefined ? undefined : Number(op.revision)
  const key = singleKey(op.range)
  return key === undefined ? rangeOfKeys(mvcc, op, at) : rangeOfKey(mvcc, op, mvcc.get(key, at))
}

const rangeOfKey = (mvcc: Mvcc, op: Op.Range, version: Version | undefined): Op.RangeResponse => {
  if (version === undefined) return response(mvcc, [], 0, false)
  if (op.countOnly === true || !passes(op, version)) return response(mvcc, [], 1, false)
  return response(mvcc, [op.keysOnly === true ? toKeyEntry(version) : toEntry(version)], 1, false)
}

const rangeOfKeys = (mvcc: Mvcc, op: Op.Range, at: number | undefined): Op.RangeResponse => {
  const window = { limit: versionsNeeded(op), descending: isByKey(op) && isDescending(op) }
  const { count, versions } = mvcc.find(fromRange(op.range), at, window)
  if (op.countOnly === true) return response(mvcc, [], count, false)
  const kept = hasFilter(op) ? versions.filter((version) => passes(op, version)) : versions
  if (op.order !== undefined && op.order.by !== "key") sort(kept, op.order.by, isDescending(op))
  const limit = op.limit ?? Number.POSITIVE_INFINITY
  const limited = kept.length > limit ? kept.slice(0, limit) : kept
  const more = (hasFilter(op) ? kept.length : count) > limit
  return response(mvcc, limited.map(op.keysOnly === true ? toKeyEntry : toEntry), count, more)
}

const response = (
  mvcc: Mvcc,
  entries: Op.RangeResponse["entries"],
  count: number,
  more: boolean
): Op.RangeResponse => Op.rangeResponse({ revision: mvcc.revisionId, entries, count, more })

/** How many versions must be read to be sure that the entries of the response are among them. */
const versionsNeeded = (op: Op.Range): number => {
  if (op.countOnly === true) return 0
  return hasFilter(op) || !isByKey(op) ? Number.POSITIVE_INFINITY : op.limit ?? Number.POSITIVE_INFINITY
}

const isByKey = (op: Op.Range): boolean => op.order === undefined || op.order.by === "key"

const isDescending = (op: Op.Range): boolean => op.order?.direction === "descending"

const hasFilter = (op: Op.Range): boolean =>
  op.minModRevision !== undefined || op.maxModRevision !== undefined ||
  op.minCreateRevision !== undefined || op.maxCreateRevision !== undefined

const passes = (op: Op.Range, version: Version): boolean =>
  (op.minModRevision === undefined || version.modRevision >= op.minModRevision) &&
  (op.maxModRevision === undefined || version.modRevision <= op.maxModRevision) &&
  (op.minCreateRevision === undefined || version.createRevision >= op.minCreateRevision) &&
  (op.maxCreateRevision === undefined || version.createRevision <= op.maxCreateRevision)

const sort = (versions: Array<Version>, by: Exclude<Op.OrderBy, "key">, descending: boolean): void => {
  const field = by === "version" ? "version" : by === "modRevision" ? "modRevision" : "createRevision"
  versions.sort((a, b) => {
    const order = a[field] < b[field] ? -1 : a[field] > b[field] ? 1 : 0
    return descending ? -order : order
  })
}
