/**
 * Operations of a program, translated to operations of a store.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Op from "@effect-kv/core/Op"
import type * as Program from "./Program.ts"
import type { ProgramRun } from "./ProgramRun.ts"

const toRangeOptions = (run: ProgramRun, read: Program.Read): Op.RangeOptions => ({
  limit: read.limit,
  order: read.by === undefined
    ? undefined
    : { by: read.by, direction: read.descending === true ? "descending" : "ascending" },
  keysOnly: read.keysOnly,
  countOnly: read.countOnly,
  serializable: read.serializable,
  revision: run.optionalRevision(read.revision),
  minModRevision: run.optionalRevision(read.minModRevision),
  maxModRevision: run.optionalRevision(read.maxModRevision),
  minCreateRevision: run.optionalRevision(read.minCreateRevision),
  maxCreateRevision: run.optionalRevision(read.maxCreateRevision)
})

const toCompare = (run: ProgramRun, condition: Program.Condition): Compare.Compare => {
  switch (condition.on) {
    case "value":
      return Compare.value(condition.key, condition.operator, condition.value)
    case "version":
      return Compare.version(condition.key, condition.operator, condition.value)
    case "createRevision":
      return Compare.createRevision(condition.key, condition.operator, run.revision(condition.value))
    case "modRevision":
      return Compare.modRevision(condition.key, condition.operator, run.revision(condition.value))
    case "lease":
      return Compare.lease(
        condition.key,
        condition.operator,
        condition.value === "none" ? 0n : run.lease(condition.value)
      )
    case "createdBefore":
      return Compare.createdBefore(condition.range, run.revision(condition.revision))
  }
}

export const toOp = (run: ProgramRun, operation: Program.Operation): Op.Op => {
  switch (operation.do) {
    case "range":
      return Op.range(operation.range, toRangeOptions(run, operation.read))
    case "put":
      return Op.put(operation.key, operation.value, {
        lease: operation.lease === undefined ? undefined : run.lease(operation.lease),
        previous: operation.previous
      })
    case "delete":
      return Op.deleteRange(operation.range, { previous: operation.previous })
    case "txn":
      return Op.txn({
        if: operation.if.map((condition) => toCompare(run, condition)),
        then: operation.then.map((inner) => toOp(run, inner)),
        else: operation.else.map((inner) => toOp(run, inner))
      })
  }
}
