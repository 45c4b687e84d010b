/**
 * The execution of operations on the data: single ones, and transactions with their nested ones.
 *
 * The rules are etcd's (server/etcdserver/apply.go, `applierV3backend.Txn`). All conditions, including nested ones, see
 * the store as it was before the transaction. Then the operations of the chosen branches are checked, and only then
 * does the first one run. From there on nothing can fail, so a transaction is applied as a whole or not at all.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"
import { holds } from "./compares.ts"
import { fromRange, singleKey } from "./interval.ts"
import type { Leases } from "./leases.ts"
import type { Mvcc } from "./mvcc.ts"
import { range, unreadable } from "./range.ts"
import { type KeySlot, toEntry, type Version } from "./version.ts"

/** The data that operations read and write. */
export interface StoreData {
  readonly mvcc: Mvcc
  readonly leases: Leases
}

/** Applies a valid operation. Returns a `KvError` if it was rejected; then nothing was applied. */
export const apply = (data: StoreData, op: Op.Op): Op.Response<Op.Op> | KvError.KvError => {
  switch (op._tag) {
    case "Range":
      return unreadable(data.mvcc, op.revision) ?? range(data.mvcc, op)
    case "Put":
      return unleased(data.leases, op) ?? committed(data, put(data, op))
    case "Delete":
      return committed(data, delete_(data, op))
    case "Txn":
      return txn(data, op)
  }
}

type Mutable<A> = A extends unknown ? { -readonly [K in keyof A]: A[K] } : never
type MutableResponse = Mutable<Op.Response<Op.Op>>

const committed = (data: StoreData, response: MutableResponse): MutableResponse => {
  if (data.mvcc.commit()) response.revision = data.mvcc.revisionId
  return response
}

/** Deletes the keys of a lease that has ended, in one revision and in the order given. */
export const deleteKeys = (data: StoreData, keys: ReadonlyArray<string>): void => {
  for (const key of keys) {
    const version = data.mvcc.get(key, undefined)
    if (version !== undefined) deleteSlot(data, version.slot)
  }
  data.mvcc.commit()
}

const unleased = (leases: Leases, op: Op.Put): KvError.KvError | undefined =>
  op.lease === undefined || leases.has(op.lease) ? undefined : leaseNotFound(op.lease)

export const leaseNotFound = (id: bigint): KvError.KvError =>
  KvError.make(
    new KvError.LeaseNotFound({
      message: `the lease ${id.toString(16)} does not exist: it expired, was revoked or was never granted`
    })
  )

const put = (data: StoreData, op: Op.Put): MutableResponse => {
  const lease = op.lease ?? 0n
  const before = data.mvcc.put(op.key, op.value, lease)
  data.leases.move(op.key, before === undefined ? 0n : before.lease, lease)
  return Op.putResponse({
    revision: data.mvcc.revisionId,
    previous: op.previous === true && before !== undefined ? Option.some(toEntry(before)) : Option.none()
  })
}

const delete_ = (data: StoreData, op: Op.Delete): MutableResponse => {
  const deleted = slots(data.mvcc, op).map((slot) => deleteSlot(data, slot))
  return Op.deleteResponse({
    revision: data.mvcc.revisionId,
    deleted: deleted.length,
    previous: op.previous === true ? deleted.map(toEntry) : []
  })
}

const slots = (mvcc: Mvcc, op: Op.Delete): Array<KeySlot> => {
  const key = singleKey(op.range)
  if (key === undefined) return mvcc.slots(fromRange(op.range))
  const version = mvcc.get(key, undefined)
  return version === undefined ? [] : [version.slot]
}

const deleteSlot = (data: StoreData, slot: KeySlot): Version => {
  const before = data.mvcc.delete(slot)
  data.leases.move(slot.key, before.lease, 0n)
  return before
}

const txn = (data: StoreData, op: Op.Txn): MutableResponse | KvError.KvError => {
  const taken = choose(data.mvcc, op)
  const rejected = rejection(taken, (op) => op._tag === "Put" ? unleased(data.leases, op) : undefined) ??
    rejection(taken, (op) => op._tag === "Range" ? unreadable(data.mvcc, op.revision) : undefined)
  if (rejected !== undefined) return rejected
  const responses: Array<MutableResponse> = []
  const response = run(data, taken, responses)
  // All responses have the revision of the transaction, even those to operations before its first write.
  if (data.mvcc.commit()) { for (const each of responses) each.revision = data.mvcc.revisionId }
  return response
}

/** A transaction, reduced to the branch that runs. */
interface Taken {
  readonly _tag: "Taken"
  readonly succeeded: boolean
  readonly ops: ReadonlyArray<Exclude<Op.Op, Op.Txn> | Taken>
}

const choose = (mvcc: Mvcc, op: Op.Txn): Taken => {
  const succeeded = op.if.every((compare) => holds(mvcc, compare))
  const ops = (succeeded ? op.then : op.else).map((op) => op._tag === "Txn" ? choose(mvcc, op) : op)
  return { _tag: "Taken", succeeded, ops }
}

/** The failure of the first operation that would be rejected. */
const rejection = (
  taken: Taken,
  check: (op: Exclude<Op.Op, Op.Txn>) => KvError.KvError | undefined
): KvError.KvError | undefined => {
  for (const op of taken.ops) {
    const rejected = op._tag === "Taken" ? rejection(op, check) : check(op)
    if (rejected !== undefined) return rejected
  }
  return undefined
}

/** Runs the branch. Every response, including nested ones, is added to `all`. */
const run = (data: StoreData, taken: Taken, all: Array<MutableResponse>): MutableResponse => {
  const responses = taken.ops.map((op) => op._tag === "Taken" ? run(data, op, all) : runSingle(data, op, all))
  const { succeeded } = taken
  const response: MutableResponse = Op.txnResponse({ revision: data.mvcc.revisionId, succeeded, responses })
  all.push(response)
  return response
}

const runSingle = (
  data: StoreData,
  op: Exclude<Op.Op, Op.Txn>,
  all: Array<MutableResponse>
): MutableResponse => {
  const response = op._tag === "Range" ? range(data.mvcc, op) : op._tag === "Put" ? put(data, op) : delete_(data, op)
  all.push(response)
  return response
}
