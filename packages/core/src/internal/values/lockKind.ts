/**
 * The kind of a lock: what it is to its user, for messages about it.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** A lock, or the leadership of an election, which is a lock whose key has a value. */
export type LockKind = "lock" | "leadership"

/** The field of errors. */
export const field = Schema.Literals(["lock", "leadership"]).pipe(
  Schema.withConstructorDefault(Effect.succeed<LockKind>("lock"))
)

/** The subject of a message about the lock. */
export const subjectOf = (kind: LockKind, name: string): string =>
  kind === "lock" ? `the lock ${JSON.stringify(name)}` : `the leadership of ${JSON.stringify(name)}`

/** The name as a log annotation: of the lock, or of the election. */
export const annotationOf = (kind: LockKind, name: string): Readonly<Record<string, string>> =>
  kind === "lock" ? { lock: name } : { election: name }
