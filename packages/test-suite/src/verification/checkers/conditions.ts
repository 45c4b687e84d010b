/**
 * Conditions of transactions: which branches an operation can take.
 */
import type * as Compare from "@effect-kv/core/Compare"
import type * as Op from "@effect-kv/core/Op"
import type * as History from "../history/History.ts"
import { type ModelRow, showRow } from "../history/rows.ts"
import { showCompare } from "../history/show.ts"
import { compareValues } from "../history/values.ts"
import type { View } from "./StoreView.ts"

/** An operation other than a transaction. */
export type Single = Exclude<Op.Op, Op.Txn>

/** A transaction reduced to the branch that it takes. */
export interface Taken {
  readonly _tag: "Taken"
  readonly succeeded: boolean
  readonly ops: ReadonlyArray<Single | Taken>
}

/**
 * The possible branches of an operation that agree with the response, or a text why there is none. All conditions, nested ones
 * included, see the store before the operation.
 */
export const choices = (
  view: View,
  op: Op.Op,
  response: History.OpResponse | undefined
): ReadonlyArray<Single | Taken | string> => {
  if (response !== undefined && response._tag !== op._tag) return [`the response to a ${op._tag} is a ${response._tag}`]
  if (op._tag !== "Txn") return [op]
  const txn = response as Extract<History.OpResponse, { _tag: "Txn" }> | undefined
  const holding = op.if.map((compare) => holds(view, compare))
  const possible = holding.includes(false) ? [false] : holding.includes(undefined) ? [true, false] : [true]
  if (txn !== undefined && !possible.includes(txn.succeeded)) return [disagreement(view, op.if, holding)]
  const branches = txn === undefined ? possible : [txn.succeeded]
  return branches.flatMap((succeeded) => {
    const ops = succeeded ? op.then : op.else
    if (txn !== undefined && txn.responses.length !== ops.length) {
      return [`there are ${txn.responses.length} responses to ${ops.length} operations`]
    }
    return combinations(ops.map((inner, i) => choices(view, inner, txn?.responses[i]))).map((taken) =>
      taken.find((each) => typeof each === "string") ??
        { _tag: "Taken" as const, succeeded, ops: taken as ReadonlyArray<Single | Taken> }
    )
  })
}

const combinations = <A>(parts: ReadonlyArray<ReadonlyArray<A>>): ReadonlyArray<ReadonlyArray<A>> => {
  let all: Array<Array<A>> = [[]]
  for (const part of parts) all = all.flatMap((before) => part.map((choice) => [...before, choice]))
  return all
}

const disagreement = (
  view: View,
  compares: ReadonlyArray<Compare.Compare>,
  holding: ReadonlyArray<boolean | undefined>
): string => {
  const at = holding.indexOf(false)
  const compare = compares[at]
  if (compare === undefined) return "all its conditions held, and the response says that they did not"
  return compare.target === "CreatedBefore"
    ? `its condition ${showCompare(compare)} did not hold, and the response says that it did`
    : `its condition ${compare.target} ${compare.operator} on ${showRow(view.get(compare.key))} of ` +
      `${JSON.stringify(compare.key)} did not hold, and the response says that it did`
}

/** Whether a condition holds; `undefined` if it is on an unknown revision. */
const holds = (view: View, compare: Compare.Compare): boolean | undefined => {
  if (compare.target !== "CreatedBefore") return holdsOf(view.get(compare.key), compare)
  const holding = view.within(compare.range).map(({ createRevision }) =>
    createRevision === undefined ? holdsUnknown("<", compare.revision) : createRevision < compare.revision
  )
  return holding.includes(false) ? false : holding.includes(undefined) ? undefined : true
}

const holdsOf = (row: ModelRow | undefined, compare: Compare.OfKey): boolean | undefined => {
  if (compare.target === "Value") {
    return row !== undefined && fulfils(compareValues(row.value, compare.value), compare.operator)
  }
  const actual = row === undefined ? 0 : actualOf(row, compare.target)
  if (actual === undefined) return holdsUnknown(compare.operator, BigInt(compare.value))
  return fulfils(actual < compare.value ? -1 : actual > compare.value ? 1 : 0, compare.operator)
}

const actualOf = (row: ModelRow, target: Exclude<Compare.OfKey["target"], "Value">): number | bigint | undefined => {
  switch (target) {
    case "Version":
      return row.version
    case "CreateRevision":
      return row.createRevision
    case "ModRevision":
      return row.modRevision
    case "Lease":
      return row.lease
  }
}

/** An unknown revision is at least 2, because the empty store is at 1. */
const holdsUnknown = (operator: Compare.Operator, value: bigint): boolean | undefined => {
  if (value >= 2n) return operator === "<" && value === 2n ? false : undefined
  return operator === "!=" || operator === ">"
}

const fulfils = (order: -1 | 0 | 1, operator: Compare.Operator): boolean => {
  switch (operator) {
    case "=":
      return order === 0
    case "!=":
      return order !== 0
    case "<":
      return order < 0
    case ">":
      return order > 0
  }
}
