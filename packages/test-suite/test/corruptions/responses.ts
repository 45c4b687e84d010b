/**
 * Corruptions of responses, which `RevisionChecker` must find: one detail of one response is changed.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Op from "@effect-kv/core/Op"
import { History } from "@effect-kv/test-suite/verification"
import type { Run } from "../goodHistories.ts"
import { callsWithResponse, type CallWithResponse, type Corrupt, replaceCall, withResponse } from "./pick.ts"
import type { Corruption } from "./revisions.ts"

type Of<Tag extends Op.Op["_tag"]> = {
  readonly call: CallWithResponse
  readonly op: Extract<Op.Op, { readonly _tag: Tag }>
  readonly response: Extract<History.OpResponse, { readonly _tag: Tag }>
}

/** Changes the response to an operation of a kind, chosen among those to which the change applies. */
const ofResponse = <Tag extends Op.Op["_tag"]>(
  tag: Tag,
  change: (of: Of<Tag>, run: Parameters<Corrupt>[0]) => History.OpResponse | undefined
): Corrupt =>
(run, pick) => {
  const found = pick.one(
    callsWithResponse(run).flatMap((call) => {
      const { outcome: { response }, request: { op } } = call
      if (op._tag !== tag || response._tag !== tag || call.client === "last") return []
      const changed = change({ call, op, response } as Of<Tag>, run)
      return changed === undefined ? [] : [{ call, changed }]
    })
  )
  return found && replaceCall(run, found.call.id, withResponse(found.call, found.changed))
}

/** Whether an operation, or one inside it, may delete a key. */
const mayDelete = (op: Op.Op, key: string): boolean =>
  op._tag === "Delete"
    ? KeyRange.contains(op.range, key)
    : op._tag === "Txn" && [...op.then, ...op.else].some((inner) => mayDelete(inner, key))

/** Whether a delete without a response, sent before the other one ended, explains that one of its keys is gone. */
const isExplained = ({ call, op }: Of<"Delete">, { changes, history }: Run): boolean => {
  const { revision } = call.outcome.response
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
  ofResponse("Range", ({ response }) => {
    const last = response.entries.at(-1)
    return last && { ...response, entries: [...response.entries.slice(0, -1), change(last)] }
  })

/** Changes the count of a read among those that match. */
const ofCount = (by: 1 | -1, isMeant: (op: Op.Range) => boolean): Corrupt =>
  ofResponse(
    "Range",
    ({ response, op }) =>
      isMeant(op) && response.count + by >= 0 ? { ...response, count: response.count + by } : undefined
  )

const wrong: Corruption["found"] = ["WrongResponse"]

export const corruptions: ReadonlyArray<Corruption> = [
  { title: "a read counts one key more than there was", found: wrong, corrupt: ofCount(1, () => true) },
  { title: "a read counts one key less than there was", found: wrong, corrupt: ofCount(-1, () => true) },
  {
    title: "a countOnly read counts one key more",
    found: wrong,
    corrupt: ofCount(1, (op) => op.countOnly === true)
  },
  {
    title: "a countOnly read counts one key less",
    found: wrong,
    corrupt: ofCount(-1, (op) => op.countOnly === true)
  },
  {
    title: "a serializable read has a count that was never right",
    found: wrong,
    corrupt: ofCount(1, (op) => op.serializable === true)
  },
  {
    title: "a read at a past revision has a wrong count",
    found: wrong,
    corrupt: ofCount(1, (op) => op.revision !== undefined)
  },
  {
    title: "a limited read is wrong about more entries",
    found: wrong,
    corrupt: ofResponse(
      "Range",
      ({ response, op }) => op.limit === undefined ? undefined : { ...response, more: !response.more }
    )
  },
  {
    title: "a countOnly read reports more entries",
    found: wrong,
    corrupt: ofResponse("Range", ({ response, op }) => op.countOnly === true ? { ...response, more: true } : undefined)
  },
  {
    title: "a countOnly read returns an entry",
    found: wrong,
    corrupt: ofResponse("Range", ({ response, op }) =>
      op.countOnly === true
        ? {
          ...response,
          entries: [{ key: "w/key/0", value: "", createRevision: 2n, modRevision: 2n, version: 1, lease: 0n }]
        }
        : undefined)
  },
  {
    title: "the entries of a read are in another order",
    found: wrong,
    corrupt: ofResponse(
      "Range",
      ({ response, op }) =>
        areOrdered(op, response.entries)
          ? { ...response, entries: response.entries.toReversed() }
          : undefined
    )
  },
  {
    title: "an entry is in a response twice, and another one is missing",
    found: wrong,
    corrupt: ofResponse(
      "Range",
      ({ response }) =>
        response.entries.length > 1
          ? { ...response, entries: response.entries.with(1, response.entries[0]!) }
          : undefined
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
    title: "a delete reports one key less than it deleted",
    // No call is left that deleted the key, except one that was rejected, or the end of the key's lease.
    found: ["PhantomWrite", "RejectedWriteApplied", "LeaseEndedEarly"],
    corrupt: ofResponse("Delete", (of, run) => {
      const { response } = of
      return response.deleted > 0 && !isExplained(of, run)
        ? { ...response, deleted: response.deleted - 1, previous: response.previous.slice(0, -1) }
        : undefined
    })
  },
  {
    title: "a delete reports one key more than it deleted",
    found: ["WrongResponse", "LostWrite"],
    corrupt: ofResponse("Delete", ({ response }) => ({ ...response, deleted: response.deleted + 1 }))
  },
  {
    title: "a delete returns other entries than it deleted",
    found: wrong,
    corrupt: ofResponse("Delete", ({ response, op }) =>
      op.previous === true && response.previous.length > 0
        ? { ...response, previous: response.previous.map((row) => ({ ...row, version: row.version + 1 })) }
        : undefined)
  },
  {
    title: "a put returns the previous entry without a request",
    found: wrong,
    corrupt: ofResponse("Put", ({ response, op }) =>
      op.previous === true
        ? undefined
        : {
          ...response,
          previous: { key: op.key, value: "", createRevision: 2n, modRevision: 2n, version: 1, lease: 0n }
        })
  },
  {
    title: "a response in a transaction has another revision",
    found: [...wrong, "LostWrite"],
    corrupt: ofResponse("Txn", ({ response }) => {
      const last = response.responses.at(-1)
      return last && {
        ...response,
        responses: [
          ...response.responses.slice(0, -1),
          { ...last, revision: last.revision - 1n }
        ]
      }
    })
  },
  {
    title: "a transaction has one response too few",
    found: [...wrong, "PhantomWrite", "DuplicateWrite", "SplitWrite"],
    corrupt: ofResponse(
      "Txn",
      ({ response }) =>
        response.responses.length > 0 ? { ...response, responses: response.responses.slice(0, -1) } : undefined
    )
  }
]
