/** The name of a failure that the program caused, for messages. The rest of the failure may be secret. */
import * as Cause from "effect/Cause"
import * as Predicate from "effect/Predicate"

/** The tag of the failure, or the name of its class. */
export const nameOf = (cause: Cause.Cause<unknown>): string => {
  if (cause.reasons.every((reason) => reason._tag === "Interrupt")) return "it was interrupted"
  const failure = Cause.squash(cause)
  if (Predicate.hasProperty(failure, "_tag") && typeof failure._tag === "string") return failure._tag
  return failure instanceof Error ? failure.name : `a failure of type ${typeof failure}`
}
