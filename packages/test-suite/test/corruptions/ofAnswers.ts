/**
 * What no answer may say, as the checker by revision must notice it: one detail of one answer is another than it was.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import { History } from "@effect-kv/test-suite/verification"
import type { Run } from "../goodHistories.ts"
import type { Corruption } from "./ofRevisions.ts"
import { type Answered, answered, type Corrupt, replaceCall, withAnswer } from "./pick.ts"

type Of<Tag extends Op.Op["_tag"]> = {
  readonly call: Answered
  readonly op: Extract<Op.Op, { readonly _tag: Tag }>
  readonly answer: Extract<History.Response, { readonly _tag: Tag }>
}

/** Changes the answer to an operation of a kind, chosen among those that the change is for. */
const ofAnswer = <Tag extends Op.Op["_tag"]>(
  tag: Tag,
  change: (of: Of<Tag>, run: Parameters<Corrupt>[0]) => History.Response | undefined
): Corrupt =>
(run, pick) => {
  const found = pick.one(
    answered(run).flatMap((call) => {
      const { outcome: { answer }, request: { op } } = call
      if (op._tag !== tag || answer._tag !== tag || call.client === "last") return []
      const changed = change({ call, op, answer } as Of<Tag>, run)
      return changed === undefined ? [] : [{ call, changed }]
    })
  )
  return found && replaceCall(run, found.call.id, withAnswer(found.call, found.changed))
}

/** Whether an operation, or one inside it, may delete a key. */
const mayDelete = (op: Op.Op, key: string): boolean =>
  op._tag === "Delete"
    ? KeyRange.contains(op.range, key)
    : op._tag === "Txn" && [...op.then, ...op.else].some((inner) => mayDelete(inner, key))

/** Whether a delete that was not answered, and was sent before the other one ended, explains that one of its keys is gone. */
const isExplained = ({ call, op }: Of<"Delete">, { changes, history }: Run): boolean => {
  const { revision } = call.outcome.answer
  const keys = changes.filter(({ key, modRevision }) => modRevision === revision && KeyRange.contains(op.range, key))
  return history.calls.some((other) =>
    History.isUnknown(other) && other.invoked.order < call.completed.order && other.request._tag === "Execute" &&
    keys.some(({ key }) => mayDelete((other.request as History.OpCall["request"]).op, key))
  )
}

/** Whether entries differ in what the read orders by. Equal ones may come in any order, so their reverse is not wrong. */
const areOrdered = (op: Op.Range, entries: ReadonlyArray<History.Row>): boolean =>
  new Set(entries.map((row) => row[op.order?.by ?? "key"])).size > 1

/** Changes the last entry of a read. */
const ofEntry = (change: (row: History.Row) => History.Row): Corrupt =>
  ofAnswer("Range", ({ answer }) => {
    const last = answer.entries.at(-1)
    return last && { ...answer, entries: [...answer.entries.slice(0, -1), change(last)] }
  })

/** Changes the count of a read, where the reads are such. */
const ofCount = (by: 1 | -1, isMeant: (op: Op.Range) => boolean): Corrupt =>
  ofAnswer(
    "Range",
    ({ answer, op }) => isMeant(op) && answer.count + by >= 0 ? { ...answer, count: answer.count + by } : undefined
  )

const wrong: Corruption["found"] = ["WrongAnswer"]

export const corruptions: ReadonlyArray<Corruption> = [
  { title: "a read counts one key more than there was", found: wrong, corrupt: ofCount(1, () => true) },
  { title: "a read counts one key less than there was", found: wrong, corrupt: ofCount(-1, () => true) },
  {
    title: "a read that only counts is told of one key more",
    found: wrong,
    corrupt: ofCount(1, (op) => op.countOnly === true)
  },
  {
    title: "a read that only counts is told of one key less",
    found: wrong,
    corrupt: ofCount(-1, (op) => op.countOnly === true)
  },
  {
    title: "a read that may be stale counts what was at no time",
    found: wrong,
    corrupt: ofCount(1, (op) => op.serializable === true)
  },
  {
    title: "a read of a past revision counts what was not there then",
    found: wrong,
    corrupt: ofCount(1, (op) => op.revision !== undefined)
  },
  {
    title: "a limited read says wrongly whether there is more",
    found: wrong,
    corrupt: ofAnswer(
      "Range",
      ({ answer, op }) => op.limit === undefined ? undefined : { ...answer, more: !answer.more }
    )
  },
  {
    title: "a read that only counts says that there is more",
    found: wrong,
    corrupt: ofAnswer("Range", ({ answer, op }) => op.countOnly === true ? { ...answer, more: true } : undefined)
  },
  {
    title: "a read that only counts comes with an entry",
    found: wrong,
    corrupt: ofAnswer("Range", ({ answer, op }) =>
      op.countOnly === true
        ? {
          ...answer,
          entries: [{ key: "w/key/0", value: "", createRevision: 2n, modRevision: 2n, version: 1, lease: 0n }]
        }
        : undefined)
  },
  {
    title: "the entries of a read come in another order",
    found: wrong,
    corrupt: ofAnswer(
      "Range",
      ({ answer, op }) =>
        areOrdered(op, answer.entries)
          ? { ...answer, entries: answer.entries.toReversed() }
          : undefined
    )
  },
  {
    title: "an entry is in an answer twice, and another one not",
    found: wrong,
    corrupt: ofAnswer(
      "Range",
      ({ answer }) =>
        answer.entries.length > 1 ? { ...answer, entries: answer.entries.with(1, answer.entries[0]!) } : undefined
    )
  },
  {
    title: "an entry is read with another value",
    found: wrong,
    corrupt: ofEntry((row) => ({ ...row, value: "other" }))
  },
  {
    title: "an entry is read with another version",
    found: wrong,
    corrupt: ofEntry((row) => ({ ...row, version: row.version + 1 }))
  },
  {
    title: "an entry is read with another create revision",
    found: wrong,
    corrupt: ofEntry((row) => ({ ...row, createRevision: row.createRevision - 1n }))
  },
  {
    title: "an entry is read with another mod revision",
    found: wrong,
    corrupt: ofEntry((row) => ({ ...row, modRevision: row.modRevision + 1n }))
  },
  {
    title: "an entry is read with another lease",
    found: wrong,
    corrupt: ofEntry((row) => ({ ...row, lease: row.lease + 1n }))
  },
  {
    title: "a delete says that it deleted one key less than it did",
    // No call is left that deleted the key, except one that was rejected, or the end of the key's lease.
    found: ["PhantomWrite", "RefusedWriteApplied", "LeaseEndedEarly"],
    corrupt: ofAnswer("Delete", (of, run) => {
      const { answer } = of
      return answer.deleted > 0 && !isExplained(of, run)
        ? { ...answer, deleted: answer.deleted - 1, previous: answer.previous.slice(0, -1) }
        : undefined
    })
  },
  {
    title: "a delete says that it deleted one key more than it did",
    found: ["WrongAnswer", "LostWrite"],
    corrupt: ofAnswer("Delete", ({ answer }) => ({ ...answer, deleted: answer.deleted + 1 }))
  },
  {
    title: "a delete comes with other entries than it deleted",
    found: wrong,
    corrupt: ofAnswer("Delete", ({ answer, op }) =>
      op.previous === true && answer.previous.length > 0
        ? { ...answer, previous: answer.previous.map((row) => ({ ...row, version: row.version + 1 })) }
        : undefined)
  },
  {
    title: "a put that did not ask for it comes with the entry before it",
    found: wrong,
    corrupt: ofAnswer("Put", ({ answer, op }) =>
      op.previous === true
        ? undefined
        : {
          ...answer,
          previous: { key: op.key, value: "", createRevision: 2n, modRevision: 2n, version: 1, lease: 0n }
        })
  },
  {
    title: "a response in a transaction is of another revision",
    found: [...wrong, "LostWrite"],
    corrupt: ofAnswer("Txn", ({ answer }) => {
      const last = answer.responses.at(-1)
      return last && {
        ...answer,
        responses: [
          ...answer.responses.slice(0, -1),
          { ...last, revision: last.revision - 1n }
        ]
      }
    })
  },
  {
    title: "a transaction is answered with a response too few",
    found: [...wrong, "PhantomWrite", "DuplicateWrite", "SplitWrite"],
    corrupt: ofAnswer(
      "Txn",
      ({ answer }) => answer.responses.length > 0 ? { ...answer, responses: answer.responses.slice(0, -1) } : undefined
    )
  }
]
