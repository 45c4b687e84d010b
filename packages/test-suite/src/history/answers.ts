/**
 * What an answer says about when its call took effect.
 */
import type * as Op from "@effect-kv/core/Op"
import type * as History from "../History.ts"

/** The response to an operation, if it was answered. */
export const responseOf = (call: History.Call): History.Response | undefined => {
  if (call.outcome._tag !== "Answered") return undefined
  const { answer } = call.outcome
  return answer._tag === "Lease" || answer._tag === "LeaseRevoked" || answer._tag === "LeaseStatus"
    ? undefined
    : answer
}

/** Whether an operation changed the store, by what it was answered. */
export const wrote = (op: Op.Op, response: History.Response): boolean => {
  if (op._tag === "Put") return true
  if (op._tag === "Delete") return response._tag === "Delete" && response.deleted > 0
  if (op._tag === "Range" || response._tag !== "Txn") return false
  const branch = response.succeeded ? op.then : op.else
  return response.responses.some((inner, i) => branch[i] !== undefined && wrote(branch[i], inner))
}

/** Whether an operation, if it only reads, must see all that was confirmed before it. */
export const isLinearizableRead = (op: Op.Op): boolean => {
  switch (op._tag) {
    case "Range":
      return op.serializable !== true
    case "Put":
    case "Delete":
      return true
    case "Txn": {
      const inner = [...op.then, ...op.else]
      // Etcd answers a transaction without asking the others only if all in it may be answered so.
      return inner.length === 0 || inner.some(isLinearizableRead)
    }
  }
}

/** A revision that was seen, and in which record. */
export interface Seen {
  readonly revision: bigint
  readonly record: number
}

/** For each call the largest revision that anybody had seen before it was invoked; `undefined` where nobody had any. */
export const floors = (history: History.History): (call: History.Call) => Seen | undefined => {
  const seen: Array<Seen & { readonly order: number }> = []
  for (const call of history.calls) {
    const response = responseOf(call)
    if (response !== undefined && call.completed !== undefined) {
      seen.push({ order: call.completed.order, revision: response.revision, record: call.id })
    }
  }
  for (const watch of history.watches) {
    if (watch.confirmed !== undefined && watch.request.startRevision === undefined) {
      seen.push({ order: watch.confirmed.at.order, revision: watch.confirmed.revision, record: watch.id })
    }
    for (const batch of watch.batches) seen.push({ order: batch.at.order, revision: batch.revision, record: watch.id })
  }
  seen.sort((a, b) => a.order - b.order)
  // Only those that raised the largest one.
  const raised: Array<Seen & { readonly order: number }> = []
  for (const each of seen) if (each.revision > (raised.at(-1)?.revision ?? -1n)) raised.push(each)
  return (call) => {
    let low = 0
    let high = raised.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (raised[middle]!.order < call.invoked.order) low = middle + 1
      else high = middle
    }
    return raised[low - 1]
  }
}
