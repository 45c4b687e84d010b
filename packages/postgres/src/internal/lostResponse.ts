/**
 * The response of a write whose own response was lost, from what the store's log shows that it wrote.
 */
import * as Op from "@effect-kv/core/Op"
import * as Option from "effect/Option"
import { intervalOf, isWithin, keyOf } from "./bytes.ts"
import { type Item, kind } from "./items.ts"

/** What an applied write wrote. */
export interface Written {
  readonly revision: bigint
  readonly puts: ReadonlySet<string>
  readonly deletes: ReadonlyArray<Uint8Array>
}

export const writtenBy = (items: ReadonlyArray<Item>, revision: bigint): Written => ({
  revision,
  puts: new Set(items.filter((item) => item[0] === kind.put).map((item) => keyOf(item[3]!))),
  deletes: items.filter((item) => item[0] === kind.delete).map((item) => item[3]!)
})

/**
 * The response, if the log determines it. It does not hold what the operations read, nor which branch of a transaction
 * ran if both may have written the same.
 */
export const responseFrom = (op: Op.Op, written: Written): Op.Response<Op.Op> | undefined => {
  const { revision } = written
  switch (op._tag) {
    case "Range":
      return undefined
    case "Put":
      return op.previous === true || !written.puts.has(op.key)
        ? undefined
        : Op.putResponse({ revision, previous: Option.none() })
    case "Delete": {
      const deleted = deletedBy(op, written)
      return op.previous === true ? undefined : Op.deleteResponse({ revision, deleted, previous: [] })
    }
    case "Txn":
      return txnResponse(op, written)
  }
}

const txnResponse = (op: Op.Txn, written: Written): Op.Response<Op.Op> | undefined => {
  const isThen = op.then.length > 0 && op.then.every((inner) => inner._tag === "Put" && written.puts.has(inner.key))
  if (!isThen || op.if.length > 0 && op.else.some(Op.isWrite)) return undefined
  const responses = op.then.map((inner) => responseFrom(inner, written))
  return responses.includes(undefined) ? undefined : Op.txnResponse({
    revision: written.revision,
    succeeded: true,
    responses: responses.filter((response) => response !== undefined)
  })
}

const deletedBy = (op: Op.Delete, written: Written): number => {
  const interval = intervalOf(op.range)
  return written.deletes.filter((key) => isWithin(interval, key)).length
}
