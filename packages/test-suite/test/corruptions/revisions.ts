/**
 * Corruptions of stores and responses, which `RevisionChecker` must find.
 */
import * as Op from "@effect-kv/core/Op"
import type { Changes, History, RevisionChecker } from "@effect-kv/test-suite/verification"
import type { Run } from "../goodHistories.ts"
import {
  addCall,
  after,
  callsWithResponse,
  type Corrupt,
  puts,
  type PutWithResponse,
  replaceCall,
  withResponse
} from "./pick.ts"
import { staleRead } from "./staleRead.ts"

export interface Corruption {
  readonly title: string
  readonly corrupt: Corrupt
  /** One of them must be found. */
  readonly found: ReadonlyArray<RevisionChecker.Kind>
}

const encoder = new TextEncoder()

const putChange = (
  changes: ReadonlyArray<Changes.Change>,
  key: string,
  value: string,
  modRevision: bigint
): Changes.Change => {
  const last = changes.findLast((change) => change.key === key)
  const before = last?.type === "put" ? last : undefined
  return {
    type: "put",
    key,
    valueBytes: encoder.encode(value),
    modRevision,
    createRevision: before?.createRevision ?? modRevision,
    version: (before?.version ?? 0n) + 1n,
    lease: 0n
  }
}

/** The run in which the put of the call was applied again at the end. */
const appliedAgain = (run: Run, { request: { op } }: PutWithResponse): Run => ({
  ...run,
  changes: [...run.changes, putChange(run.changes, op.key, op.value as string, run.revision + 1n)]
})

const lostResponse: History.Outcome = { _tag: "Failed", reason: "Indeterminate", outcome: "Unknown", message: "" }
const notApplied: History.Outcome = { _tag: "Failed", reason: "Unavailable", outcome: "NotApplied", message: "" }

export const corruptions: ReadonlyArray<Corruption> = [
  {
    title: "a confirmed put is not in the store",
    found: ["LostWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      if (call === undefined) return undefined
      const { op } = call.request
      return replaceCall(run, call.id, { ...call, request: { _tag: "Execute", op: { ...op, value: "never written" } } })
    }
  },
  {
    title: "a put is confirmed at another revision than it was made at",
    found: ["LostWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      const other = pick.one(run.changes.filter((change) => change.key !== call?.request.op.key))
      if (call === undefined || other === undefined) return undefined
      return replaceCall(run, call.id, withResponse(call, { ...call.outcome.response, revision: other.modRevision }))
    }
  },
  {
    title: "a delete is confirmed that deleted nothing",
    found: ["LostWrite"],
    corrupt: (run, pick) => {
      const change = pick.one(run.changes.filter((change) => change.type === "put"))
      if (change === undefined) return undefined
      return addCall(run, {
        ...after(run),
        _tag: "Call",
        client: "a",
        request: { _tag: "Execute", op: Op.delete("w/key/none") },
        outcome: {
          _tag: "Responded",
          response: { _tag: "Delete", revision: change.modRevision, deleted: 1, previous: [] }
        }
      })
    }
  },
  {
    title: "a put is applied twice",
    found: ["DuplicateWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      if (call === undefined) return undefined
      return appliedAgain(run, call)
    }
  },
  {
    title: "a put whose response was lost is applied twice",
    found: ["DuplicateWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      if (call === undefined) return undefined
      const { completed: _, ...rest } = call
      return replaceCall(appliedAgain(run, call), call.id, { ...rest, outcome: lostResponse })
    }
  },
  {
    title: "a key is written without a call",
    found: ["PhantomWrite"],
    corrupt: (run) => ({
      ...run,
      changes: [...run.changes, putChange(run.changes, "w/key/0", "phantom", run.revision + 1n)]
    })
  },
  {
    title: "a key is deleted without a call",
    found: ["PhantomWrite"],
    corrupt: (run) => ({
      ...run,
      changes: [...run.changes, { ...putChange(run.changes, "w/last", "", run.revision + 1n), ...deletion }]
    })
  },
  {
    title: "a write that was reported as not applied is in the store",
    found: ["RejectedWriteApplied"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      return call && replaceCall(run, call.id, { ...call, outcome: notApplied })
    }
  },
  {
    title: "half of a transaction of unknown outcome is in the store",
    found: ["SplitWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      if (call === undefined) return undefined
      const op = Op.txn({ then: [call.request.op, Op.put("w/key/other", "the other half")] })
      return replaceCall(run, call.id, { ...call, request: { _tag: "Execute", op }, outcome: lostResponse })
    }
  },
  {
    title: "half of a confirmed transaction is in the store",
    found: ["LostWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      if (call === undefined) return undefined
      const { revision } = call.outcome.response
      const op = Op.txn({ then: [call.request.op, Op.put("w/key/other", "the other half")] })
      return replaceCall(run, call.id, {
        ...withResponse(call, {
          _tag: "Txn",
          revision,
          succeeded: true,
          responses: [call.outcome.response, { _tag: "Put", revision }]
        }),
        request: { _tag: "Execute", op }
      })
    }
  },
  {
    title: "two calls are confirmed for one write",
    found: ["ClaimedTwice"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      return call && addCall(run, { ...call, id: 1_000_000 })
    }
  },
  {
    title: "a read returns the entries before a completed write, with the old revision",
    found: ["RealTimeOrder"],
    corrupt: staleRead("honest")
  },
  {
    title: "a read returns the entries before a completed write, with the new revision",
    found: ["WrongResponse"],
    corrupt: staleRead("pretending")
  },
  {
    title: "a write takes effect before it was invoked",
    found: ["RealTimeOrder", "PhantomWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      if (call === undefined) return undefined
      const { completed, invoked } = after(run)
      return replaceCall(run, call.id, { ...call, invoked, completed })
    }
  },
  {
    title: "a write is seen before it was invoked, and nothing later",
    found: ["RealTimeOrder"],
    corrupt: (run) => {
      const call = callsWithResponse(run).find((call) => call.client === "last")
      return call && replaceCall(run, call.id, { ...call, ...after(run), id: call.id })
    }
  },
  {
    title: "a write of unknown outcome takes effect before it was invoked",
    found: ["PhantomWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run))
      return call && replaceCall(run, call.id, { ...call, invoked: after(run).invoked, outcome: lostResponse })
    }
  },
  {
    title: "two writes of one client are in the store in the other order",
    found: ["RealTimeOrder"],
    corrupt: (run, pick) => {
      const first = pick.one(puts(run))
      const second = pick.one(
        puts(run).filter((call) =>
          first !== undefined && call.invoked.order > first.completed.order &&
          call.outcome.response.revision > first.outcome.response.revision
        )
      )
      if (first === undefined || second === undefined) return undefined
      const { completed, invoked } = first
      const swapped = replaceCall(run, first.id, { ...first, invoked: second.invoked, completed: second.completed })
      return replaceCall(swapped, second.id, { ...second, invoked, completed })
    }
  },
  {
    title: "an entry is missing in a response",
    found: ["WrongResponse"],
    corrupt: (run, pick) => {
      const call = pick.one(ranges(run).filter(({ outcome: { response } }) => response.entries.length > 0))
      if (call === undefined) return undefined
      const { response } = call.outcome
      const left = pick.index(response.entries.length)
      return replaceCall(
        run,
        call.id,
        withResponse(call, { ...response, entries: response.entries.toSpliced(left, 1) })
      )
    }
  },
  {
    title: "the previous entry of a write is another",
    found: ["WrongResponse"],
    corrupt: (run, pick) => {
      const call = pick.one(puts(run).filter((call) => call.outcome.response.previous !== undefined))
      if (call === undefined) return undefined
      const { previous, ...response } = call.outcome.response
      return replaceCall(
        run,
        call.id,
        withResponse(call, pick.index(2) === 0 ? response : { ...response, previous: { ...previous!, version: 99 } })
      )
    }
  },
  {
    title: "a condition is said to have held that did not",
    found: ["WrongResponse", "LostWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(txns(run).filter(({ outcome }) => !outcome.response.succeeded))
      if (call === undefined) return undefined
      const { response } = call.outcome
      const responses = call.request.op.then.map((): History.OpResponse => ({
        _tag: "Put",
        revision: response.revision
      }))
      return replaceCall(run, call.id, withResponse(call, { ...response, succeeded: true, responses }))
    }
  },
  {
    title: "a condition is said not to have held that did",
    found: ["WrongResponse", "PhantomWrite", "DuplicateWrite"],
    corrupt: (run, pick) => {
      const call = pick.one(
        txns(run).filter(({ outcome: { response }, request: { op } }) =>
          response.succeeded && op.else.length === 0 &&
          op.then.some((inner) => inner._tag === "Put" && inner.value !== "")
        )
      )
      if (call === undefined) return undefined
      const { response } = call.outcome
      return replaceCall(run, call.id, withResponse(call, { ...response, succeeded: false, responses: [] }))
    }
  },
  {
    title: "a response has a future revision",
    found: ["UnknownRevision"],
    corrupt: (run, pick) => {
      const call = pick.one(ranges(run))
      return call && replaceCall(
        run,
        call.id,
        withResponse(call, { ...call.outcome.response, revision: run.revision + 1n })
      )
    }
  },
  {
    title: "a lease ends before its time, and takes its keys with it",
    found: ["LeaseEndedEarly"],
    corrupt: (run) => {
      const { completed, id, invoked } = after(run)
      const call = { _tag: "Call" as const, client: "a", invoked, completed }
      const [lease, key, revision] = [7n, "w/leased", run.revision + 1n]
      const put = { ...putChange([], key, "", revision), lease }
      const deleted = { ...putChange([], key, "", revision + 1n), ...deletion }
      const granted = addCall({ ...run, changes: [...run.changes, put, deleted] }, {
        ...call,
        id,
        request: { _tag: "LeaseGrant", ttlMillis: 10_000 },
        outcome: { _tag: "Responded", response: { _tag: "Lease", id: lease, ttlMillis: 10_000 } }
      })
      const attached = addCall(granted, {
        ...call,
        id: id + 1,
        request: { _tag: "Execute", op: Op.put(key, "", { lease }) },
        outcome: { _tag: "Responded", response: { _tag: "Put", revision } }
      })
      return addCall(attached, {
        ...call,
        id: id + 2,
        completed: { order: completed.order + 1, nanos: completed.nanos + 9_000_000_000n },
        request: { _tag: "Execute", op: Op.get(key) },
        outcome: {
          _tag: "Responded",
          response: { _tag: "Range", revision: revision + 1n, entries: [], count: 0, more: false }
        }
      })
    }
  },
  {
    title: "a revision is missing among the changes of the store",
    found: ["BrokenStoreHistory"],
    corrupt: (run, pick) => {
      const gone = pick.one(run.changes.slice(1, -1))!.modRevision
      return { ...run, changes: run.changes.filter((change) => change.modRevision !== gone) }
    }
  }
]

const deletion = { type: "delete", createRevision: 0n, version: 0n, lease: 0n } as const

type ResponseOf<Tag> = Extract<History.OpResponse, { readonly _tag: Tag }>

/** Linearizable reads. */
const ranges = (run: Parameters<Corrupt>[0]) =>
  callsWithResponse(run).flatMap((call) => {
    const { response } = call.outcome
    return response._tag === "Range" ? [{ ...call, outcome: { _tag: "Responded" as const, response } }] : []
  })

const txns = (run: Parameters<Corrupt>[0]) =>
  callsWithResponse(run).flatMap((call) => {
    const { response } = call.outcome
    const { op } = call.request
    return response._tag === "Txn" && op._tag === "Txn"
      ? [{
        ...call,
        request: { _tag: "Execute" as const, op },
        outcome: { _tag: "Responded" as const, response: response as ResponseOf<"Txn"> }
      }]
      : []
  })
