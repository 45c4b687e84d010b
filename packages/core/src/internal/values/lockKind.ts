/**
 * The kind of a lock: what it is to its user, for messages about it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** A lock, the leadership of an election, the permits of a semaphore, or a slot. */
export type LockKind = "lock" | "leadership" | "semaphore" | "slot"

/** The field of errors. */
export const field = Schema.Literals(["lock", "leadership", "semaphore", "slot"]).pipe(
  Schema.withConstructorDefault(Effect.succeed<LockKind>("lock"))
)

/** The subject of a message about the lock. */
export const subjectOf = (kind: LockKind, name: string): string =>
  kind === "leadership" ? `the leadership of ${JSON.stringify(name)}` : `the ${kind} ${JSON.stringify(name)}`

/** The name as a log annotation: of the lock, the election, the semaphore or the slot. */
export const annotationOf = (kind: LockKind, name: string): Readonly<Record<string, string>> => ({
  [kind === "leadership" ? "election" : kind]: name
})
