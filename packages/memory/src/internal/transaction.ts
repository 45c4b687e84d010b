/**
 * Carries out operations on the data: a single one, or a transaction with all that is nested in it.
 *
 * The rules are etcd's (server/etcdserver/apply.go, `applierV3backend.Txn`): all conditions, nested ones too, see the
 * store as it was before the transaction; then the operations of the branches taken are checked, and only then does the
 * first one run. From there on nothing can fail, so that a transaction is applied as a whole or not at all.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"
import { holds } from "./compares.ts"
import { fromRange, singleKey } from "./interval.ts"
import type { Leases } from "./leases.ts"
import type { Mvcc } from "./mvcc.ts"
import { range, unreadable } from "./range.ts"
import { type Slot, toEntry, type Version } from "./version.ts"

/** What operations act on. */
export interface Data {
  readonly mvcc: Mvcc
  readonly leases: Leases
}

/** Applies an operation that was checked; a `KvError` tells why it was refused, and that nothing was applied. */
export const apply = (data: Data, op: Op.Op): Op.Response<Op.Op> | KvError.KvError => {
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
type Answer = Mutable<Op.Response<Op.Op>>

const committed = (data: Data, answer: Answer): Answer => {
  if (data.mvcc.commit()) answer.revision = data.mvcc.revisionId
  return answer
}

/** Deletes the key of each version in one revision, in the order given: what becomes of the keys of a lease. */
export const deleteKeys = (data: Data, keys: ReadonlyArray<string>): void => {
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

const put = (data: Data, op: Op.Put): Answer => {
  const lease = op.lease ?? 0n
  const before = data.mvcc.put(op.key, op.value, lease)
  data.leases.move(op.key, before === undefined ? 0n : before.lease, lease)
  return Op.putResponse({
    revision: data.mvcc.revisionId,
    previous: op.previous === true && before !== undefined ? Option.some(toEntry(before)) : Option.none()
  })
}

const delete_ = (data: Data, op: Op.Delete): Answer => {
  const deleted = slots(data.mvcc, op).map((slot) => deleteSlot(data, slot))
  return Op.deleteResponse({
    revision: data.mvcc.revisionId,
    deleted: deleted.length,
    previous: op.previous === true ? deleted.map(toEntry) : []
  })
}

const slots = (mvcc: Mvcc, op: Op.Delete): Array<Slot> => {
  const key = singleKey(op.range)
  if (key === undefined) return mvcc.slots(fromRange(op.range))
  const version = mvcc.get(key, undefined)
  return version === undefined ? [] : [version.slot]
}

const deleteSlot = (data: Data, slot: Slot): Version => {
  const before = data.mvcc.delete(slot)
  data.leases.move(slot.key, before.lease, 0n)
  return before
}

const txn = (data: Data, op: Op.Txn): Answer | KvError.KvError => {
  const taken = choose(data.mvcc, op)
  const refused = refusal(taken, (op) => op._tag === "Put" ? unleased(data.leases, op) : undefined) ??
    refusal(taken, (op) => op._tag === "Range" ? unreadable(data.mvcc, op.revision) : undefined)
  if (refused !== undefined) return refused
  const answers: Array<Answer> = []
  const answer = run(data, taken, answers)
  // What an operation answered before the first write of the transaction has its revision, too.
  if (data.mvcc.commit()) { for (const answer of answers) answer.revision = data.mvcc.revisionId }
  return answer
}

/** A transaction with the branch that it takes. */
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

/** The first refusal of an operation that would run. */
const refusal = (
  taken: Taken,
  check: (op: Exclude<Op.Op, Op.Txn>) => KvError.KvError | undefined
): KvError.KvError | undefined => {
  for (const op of taken.ops) {
    const refused = op._tag === "Taken" ? refusal(op, check) : check(op)
    if (refused !== undefined) return refused
  }
  return undefined
}

/** Runs the branch; every answer, nested ones too, is added to `answers`. */
const run = (data: Data, taken: Taken, answers: Array<Answer>): Answer => {
  const responses = taken.ops.map((op) => op._tag === "Taken" ? run(data, op, answers) : runSingle(data, op, answers))
  const answer: Answer = Op.txnResponse({ revision: data.mvcc.revisionId, succeeded: taken.succeeded, responses })
  answers.push(answer)
  return answer
}

const runSingle = (data: Data, op: Exclude<Op.Op, Op.Txn>, answers: Array<Answer>): Answer => {
  const answer = op._tag === "Range" ? range(data.mvcc, op) : op._tag === "Put" ? put(data, op) : delete_(data, op)
  answers.push(answer)
  return answer
}
