/**
 * Responses as evidence of when their calls took effect.
 */
import type * as Op from "@effect-kv/core/Op"
import type * as History from "../history/History.ts"

/** The response to an operation, if there was one. */
export const responseOf = (call: History.Call): History.OpResponse | undefined => {
  if (call.outcome._tag !== "Responded") return undefined
  const { response } = call.outcome
  return response._tag === "Lease" || response._tag === "LeaseRevoked" || response._tag === "LeaseStatus"
    ? undefined
    : response
}

/** Whether an operation changed the store, according to its response. */
export const wrote = (op: Op.Op, response: History.OpResponse): boolean => {
  if (op._tag === "Put") return true
  if (op._tag === "Delete") return response._tag === "Delete" && response.deleted > 0
  if (op._tag === "Range" || response._tag !== "Txn") return false
  const branch = response.succeeded ? op.then : op.else
  return response.responses.some((inner, i) => branch[i] !== undefined && wrote(branch[i], inner))
}

/** Whether an operation, if it only reads, must see every write confirmed before it. */
export const isLinearizableRead = (op: Op.Op): boolean => {
  switch (op._tag) {
    case "Range":
      return op.serializable !== true
    case "Put":
    case "Delete":
      return true
    case "Txn": {
      const inner = [...op.then, ...op.else]
      // etcd serves a transaction without a quorum only if all its operations are serializable.
      return inner.length === 0 || inner.some(isLinearizableRead)
    }
  }
}

/** A revision that a client saw, when, and in which record. */
export interface Seen {
  readonly revision: bigint
  readonly at: History.Moment
  readonly record: number
}

/** The moments at which clients saw revisions, in responses and by watches. */
export class SeenRevisions {
  /** The observations whose revision was larger than all before. */
  readonly #raised: ReadonlyArray<Seen>

  constructor(history: Pick<History.History, "calls" | "watches">) {
    const seen: Array<Seen> = []
    for (const call of history.calls) {
      const response = responseOf(call)
      if (response !== undefined && call.completed !== undefined) {
        seen.push({ at: call.completed, revision: response.revision, record: call.id })
      }
    }
    for (const { batches, confirmed, id, request } of history.watches) {
      if (confirmed !== undefined && request.startRevision === undefined) seen.push({ ...confirmed, record: id })
      for (const { at, revision } of batches) seen.push({ at, revision, record: id })
    }
    seen.sort((a, b) => a.at.order - b.at.order)
    const raised: Array<Seen> = []
    for (const each of seen) if (each.revision > (raised.at(-1)?.revision ?? -1n)) raised.push(each)
    this.#raised = raised
  }

  /** The largest revision seen by any client before the call was invoked, if any. */
  before(call: History.Call): Seen | undefined {
    return this.#raised[this.#firstWhere((seen) => seen.at.order >= call.invoked.order) - 1]
  }

  /** The first observation of this revision or a later one. */
  of(revision: bigint): Seen | undefined {
    return this.#raised[this.#firstWhere((seen) => seen.revision >= revision)]
  }

  #firstWhere(holds: (seen: Seen) => boolean): number {
    let low = 0
    let high = this.#raised.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (holds(this.#raised[middle]!)) high = middle
      else low = middle + 1
    }
    return low
  }
}
