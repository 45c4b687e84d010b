/**
 * When what a write wrote was first seen: that one is known to have taken effect, though it had no answer.
 */
import type * as Op from "@effect-kv/core/Op"
import * as History from "../history/History.ts"
import { valueKey } from "../history/values.ts"
import { responseOf } from "./answers.ts"

/** When a call's value was first in the answer to another, and at which revision that says it was written. */
export interface Sighting {
  readonly order: number
  readonly modRevision: bigint
}

/** What was first seen of a call; `undefined` where nothing was, or others wrote the same. */
export const observations = (
  calls: ReadonlyArray<History.Call>,
  initial: ReadonlyArray<History.Row>
): (call: History.Call) => Sighting | undefined => {
  const writers = new Map<string, History.Call | undefined>()
  for (const row of initial) writers.set(rowKey(row), undefined)
  const ops = calls.filter(History.isOpCall)
  for (const call of ops) {
    for (const put of puts(call.request.op)) {
      const key = rowKey(put)
      writers.set(key, !writers.has(key) || writers.get(key) === call ? call : undefined)
    }
  }
  const seen = new Map<History.Call, Sighting>()
  for (const call of ops) {
    const response = responseOf(call)
    if (response === undefined || call.completed === undefined) continue
    for (const row of rows(call.request.op, response)) {
      const writer = writers.get(rowKey(row))
      if (writer === undefined) continue
      const { order } = call.completed
      const first = seen.get(writer)
      if (first === undefined || order < first.order) seen.set(writer, { order, modRevision: row.modRevision })
    }
  }
  return (call) => seen.get(call)
}

const rowKey = ({ key, value }: Pick<History.Row, "key" | "value">): string =>
  `${JSON.stringify(key)}${valueKey(value)}`

const puts = (op: Op.Op): ReadonlyArray<Op.Put> =>
  op._tag === "Put" ? [op] : op._tag === "Txn" ? [...op.then, ...op.else].flatMap(puts) : []

/** The entries in an answer that have their values. */
const rows = (op: Op.Op, response: History.Response): ReadonlyArray<History.Row> => {
  switch (response._tag) {
    case "Range":
      return op._tag === "Range" && op.keysOnly !== true ? response.entries : []
    case "Put":
      return response.previous === undefined ? [] : [response.previous]
    case "Delete":
      return response.previous
    case "Txn": {
      if (op._tag !== "Txn") return []
      const branch = response.succeeded ? op.then : op.else
      return response.responses.flatMap((inner, i) => branch[i] === undefined ? [] : rows(branch[i], inner))
    }
  }
}
