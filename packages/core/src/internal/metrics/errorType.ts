/**
 * The value of the label and attribute `error.type` for a failed call.
 */
import type * as Cause from "effect/Cause"
import * as KvError from "../../values/KvError.ts"

/** The reason's tag, `Interrupted` or `Defect`: a bounded set, without any text of an error. */
export const errorTypeOf = ({ reasons }: Cause.Cause<unknown>): string => {
  const failed = reasons.find((reason) => reason._tag === "Fail")
  if (failed !== undefined) return typeOf(failed.error)
  return reasons.some((reason) => reason._tag === "Die") ? "Defect" : "Interrupted"
}

const typeOf = (error: unknown): string => {
  if (KvError.isKvError(error)) return error.reason._tag
  return typeof error === "object" && error !== null && "_tag" in error && typeof error._tag === "string"
    ? error._tag
    : "Other"
}
