/**
 * What no answer may say, as the checker by revision must notice it: one detail of one answer is another than it was.
 */
import type * as Op from "@effect-kv/core/Op"
import { History } from "@effect-kv/test-suite/verification"
import type { Corruption } from "./ofRevisions.ts"
import { answered, type Corrupt, replaceCall, withAnswer } from "./pick.ts"

type Of<Tag extends Op.Op["_tag"]> = {
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
      const changed = change({ op, answer } as Of<Tag>, run)
      return changed === undefined ? [] : [{ call, changed }]
    })
  )
  return found && replaceCall(run, found.call.id, withAnswer(found.call, found.changed))
}

const isDelete = ({ request }: History.Call): boolean => request._tag === "Execute" && request.op._tag === "Delete"

/** Whether no two entries are equal in what the read orders by: such may come in any order. */
const hasOneOrder = (op: Op.Range, entries: ReadonlyArray<History.Row>): boolean => {
  const by = op.order?.by ?? "key"
  return new Set(entries.map((row) => row[by])).size === entries.length
}

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
        answer.entries.length > 1 && hasOneOrder(op, answer.entries)
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
    // As if its lease had ended then, or as if it were half of what somebody else asked for.
    found: ["WrongAnswer", "PhantomWrite", "LeaseEndedEarly", "SplitWrite"],
    corrupt: ofAnswer("Delete", ({ answer }, { history }) =>
      // A delete without an answer may have deleted the other.
      answer.deleted > 0 && !history.calls.some((call) => History.isUnknown(call) && isDelete(call))
        ? { ...answer, deleted: answer.deleted - 1, previous: answer.previous.slice(0, -1) }
        : undefined)
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
