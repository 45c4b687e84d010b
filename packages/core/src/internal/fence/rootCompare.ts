/**
 * Conditions whose key is one of the client's root, in whatever namespace they are sent: `Namespace` adds no prefix to them.
 *
 * A fence is added above the namespaces of the `Kv` that writes, and its lock may be in another one.
 */
import * as Compare from "../../values/Compare.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import * as Op from "../../values/Op.ts"

const TypeId = "~@effect-kv/core/rootCompare"

/** The condition, made in the namespace with that prefix, as one of the root. */
export const make = (prefix: string, compare: Compare.Compare): Compare.Compare =>
  Object.assign(withPrefix(compare, prefix), { [TypeId]: true })

export const is = (compare: Compare.Compare): boolean => TypeId in compare

/** The operation as the root takes it: the same, unless there are such conditions in it. */
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
