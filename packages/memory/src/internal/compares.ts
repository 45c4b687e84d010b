/**
 * The evaluation of a transaction's conditions.
 */
import type { Compare, OfKey, Operator } from "@effect-kv/core/Compare"
import { fromRange } from "./interval.ts"
import type { Mvcc } from "./mvcc.ts"
import { compareValues } from "./values.ts"
import type { Version } from "./version.ts"

export const holds = (mvcc: Mvcc, compare: Compare): boolean => {
  if (compare.target === "CreatedBefore") {
    const { revision } = compare
    return mvcc.slots(fromRange(compare.range)).every((slot) => slot.current!.createRevision < revision)
  }
  const version = mvcc.get(compare.key, undefined)
  if (compare.target === "Value") {
    // A comparison with the value of a missing key is false, even with `!=`.
    return version !== undefined && fulfils(compareValues(version.value, compare.value), compare.operator)
  }
  return fulfils(order(actual(version, compare.target), compare.value), compare.operator)
}

const actual = (version: Version | undefined, target: Exclude<OfKey["target"], "Value">): number | bigint => {
  if (version === undefined) return 0
  switch (target) {
    case "Version":
      return version.version
    case "CreateRevision":
      return version.createRevision
    case "ModRevision":
      return version.modRevision
    case "Lease":
      return version.lease
  }
}

/** Compares by value: `<` and `>` accept a number and a bigint together, but `===` is always false for them. */
const order = (a: number | bigint, b: number | bigint): -1 | 0 | 1 => a < b ? -1 : a > b ? 1 : 0

const fulfils = (order: -1 | 0 | 1, operator: Operator): boolean => {
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
