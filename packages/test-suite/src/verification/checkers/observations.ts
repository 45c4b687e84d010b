/**
 * First observations of written values: they prove that a write of unknown outcome took effect.
 */
import type * as Op from "@effect-kv/core/Op"
import * as History from "../history/History.ts"
import { valueKey } from "../history/values.ts"
import { responseOf } from "./responses.ts"

/** When a response first had the value of a call, and the mod revision it had there. */
export interface Observation {
  readonly order: number
  readonly modRevision: bigint
}

/** The first observation of a call; `undefined` if there is none, or if other calls wrote the same value. */
export const observations = (
  calls: ReadonlyArray<History.Call>,
  initial: ReadonlyArray<History.Row>
): (call: History.Call) => Observation | undefined => {
  const writers = new Map<string, History.Call | undefined>()
  for (const row of initial) writers.set(rowKey(row), undefined)
  const ops = calls.filter(History.isOpCall)
  for (const call of ops) {
    for (const put of puts(call.request.op)) {
      const key = rowKey(put)
      writers.set(key, !writers.has(key) || writers.get(key) === call ? call : undefined)
    }
  }
  const seen = new Map<History.Call, Observation>()
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

/** The entries of a response that include values. */
const rows = (op: Op.Op, response: History.OpResponse): ReadonlyArray<History.Row> => {
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
