/**
 * The kind of a lock: what it is to its user, for messages about it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** A lock, the leadership of an election, the permits of a semaphore, a slot, or a run of what runs once. */
export type LockKind = "lock" | "leadership" | "semaphore" | "slot" | "run"

/** The field of errors. */
export const field = Schema.Literals(["lock", "leadership", "semaphore", "slot", "run"]).pipe(
  Schema.withConstructorDefault(Effect.succeed<LockKind>("lock"))
)

/** The subject of a message about the lock. */
export const subjectOf = (kind: LockKind, name: string): string =>
  kind === "leadership" ? `the leadership of ${JSON.stringify(name)}` : `the ${kind} ${JSON.stringify(name)}`

/** The name as a log annotation: of the lock, the election, the semaphore, the slot or the run. */
export const annotationOf = (kind: LockKind, name: string): Readonly<Record<string, string>> => ({
  [kind === "leadership" ? "election" : kind]: name
})
