/**
 * Histories that are not linearizable, which `LinearizabilityChecker` must find without the changes of the store.
 */
import { History, type LinearizabilityChecker } from "@effect-kv/test-suite/verification"
import { addCall, after, callsWithResponse, type Corrupt, puts, replaceCall, withResponse } from "./pick.ts"
import { staleRead } from "./staleRead.ts"

export interface Corruption {
  readonly title: string
  readonly corrupt: Corrupt
  readonly found: ReadonlyArray<LinearizabilityChecker.Kind>
}

/** A read of a range, with one entry changed. */
const ofEntry = (change: (row: History.Row) => History.Row | undefined): Corrupt => (run, pick) => {
  const read = pick.one(
    callsWithResponse(run).flatMap((call) => {
      const { outcome: { response }, request: { op } } = call
      return response._tag === "Range" && response.entries.length > 0 && op._tag === "Range" &&
          op.revision === undefined &&
          op.serializable !== true && op.keysOnly !== true
        ? [{ call, response }]
        : []
    })
  )
  if (read === undefined) return undefined
  const { response, call } = read
  const at = pick.index(response.entries.length)
  const row = change(response.entries[at]!)
  return row && replaceCall(run, call.id, withResponse(call, { ...response, entries: response.entries.with(at, row) }))
}

/** Puts whose value was read. */
const seen = (run: Parameters<Corrupt>[0]) => {
  const values = new Set(
    callsWithResponse(run).flatMap(({ outcome: { response }, request: { op } }) =>
      response._tag === "Range" && op._tag === "Range" && op.serializable !== true && op.revision === undefined
        ? response.entries.map((row) => row.value)
        : []
    )
  )
  return puts(run).filter((call) => values.has(call.request.op.value))
}

export const corruptions: ReadonlyArray<Corruption> = [
  {
    title: "a read returns the entries before a completed write",
    found: ["NotLinearizable"],
    corrupt: staleRead("honest")
  },
  {
    title: "a read returns a value that no call wrote",
    found: ["NotLinearizable"],
    corrupt: ofEntry((row) => ({ ...row, value: "phantom" }))
  },
  {
    title: "a read returns a version that is one too high",
    found: ["NotLinearizable"],
    corrupt: ofEntry((row) => ({ ...row, version: row.version + 1 }))
  },
  {
    title: "a read returns a value with the revision of another",
    found: ["NotLinearizable"],
    corrupt: (run, pick) => {
      const put = pick.one(seen(run))
      if (put === undefined) return undefined
      const { response } = put.outcome
      return replaceCall(run, put.id, withResponse(put, { ...response, revision: response.revision + 1000n }))
    }
  },
  {
    title: "a write is seen that was reported as not applied",
    found: ["NotLinearizable"],
    corrupt: (run, pick) => {
      const put = pick.one(seen(run))
      return put && replaceCall(run, put.id, {
        ...put,
        outcome: { _tag: "Failed", reason: "Unavailable", outcome: "NotApplied", message: "" }
      })
    }
  },
  {
    title: "a write is seen before it was invoked",
    found: ["NotLinearizable"],
    corrupt: (run, pick) => {
      const put = pick.one(seen(run))
      if (put === undefined) return undefined
      const { completed, invoked } = after(run)
      return replaceCall(run, put.id, { ...put, invoked, completed })
    }
  },
  {
    title: "a write of unknown outcome is seen before it was invoked",
    found: ["NotLinearizable"],
    corrupt: (run, pick) => {
      const put = pick.one(seen(run))
      return put && replaceCall(run, put.id, { ...put, invoked: after(run).invoked, outcome: { _tag: "Interrupted" } })
    }
  },
  {
    title: "two conditional writes of the same version succeed",
    found: ["NotLinearizable"],
    corrupt: (run, pick) => {
      const winner = pick.one(
        callsWithResponse(run).filter(({ outcome: { response }, request: { op } }) =>
          response._tag === "Txn" && response.succeeded && op._tag === "Txn" && op.then.length === 1 &&
          op.then[0]!._tag === "Put" && op.if.length === 1 && op.if[0]!.target === "ModRevision" &&
          op.then[0]!.lease === undefined
        )
      )
      // A write or delete of unknown outcome could have come between them.
      if (run.history.calls.some(History.isUnknown)) return undefined
      return winner && addCall(run, { ...winner, id: 1_000_000 })
    }
  }
]
