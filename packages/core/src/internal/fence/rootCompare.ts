/**
 * Conditions on keys of the client's root. They are marked, so that `Namespace` adds no prefix to their keys.
 *
 * Fences need them: a lock may be in another namespace than the `Kv` that writes under it.
 */
import * as Compare from "../../values/Compare.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as Op from "../../values/Op.ts"

const TypeId = "~@effect-kv/core/rootCompare"

/** Makes a condition of the root from one of the namespace with that prefix. */
export const make = (prefix: string, compare: Compare.Compare): Compare.Compare =>
  Object.assign(withPrefix(compare, prefix), { [TypeId]: true })

export const is = (compare: Compare.Compare): boolean => TypeId in compare

/** Removes the marks from an operation before it leaves the client. */
export const resolve = (op: Op.Op): Op.Op => contains(op) ? strip(op) : op

const contains = (op: Op.Op): boolean =>
  op._tag === "Txn" && (op.if.some(is) || op.then.some(contains) || op.else.some(contains))

const strip = (op: Op.Op): Op.Op =>
  op._tag === "Txn"
    ? Op.txn({
      if: op.if.map((compare) => withPrefix(compare, "")),
      then: op.then.map(strip),
      else: op.else.map(strip)
    })
    : op

/** A copy of the condition, without the mark. */
const withPrefix = (compare: Compare.Compare, prefix: string): Compare.Compare => {
  switch (compare.target) {
    case "CreatedBefore":
      return Compare.createdBefore(KeyRange.addPrefix(compare.range, prefix), compare.revision)
    case "Value":
      return Compare.value(prefix + compare.key, compare.operator, compare.value)
    case "Version":
      return Compare.version(prefix + compare.key, compare.operator, compare.value)
    default:
      return {
        target: compare.target,
        key: prefix + compare.key,
        operator: compare.operator,
        value: compare.value
      }
  }
}
