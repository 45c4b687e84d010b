/**
 * The failure of a session.
 */
import * as Schema from "effect/Schema"
import * as json from "../values/json.ts"

/** The session has ended: its lease could not be renewed in time, the store ended it, or its scope was closed. */
export class SessionLost extends Schema.Error<SessionLost>("@effect-kv/core/Session/SessionLost")({
  _tag: Schema.tag("SessionLost"),
  lease: Schema.BigInt,
  /** Why it was lost, in words. */
  reason: Schema.String
}) {
  readonly isRetryable: boolean = false
  /** The work that relied on the session may have written before. */
  readonly outcome: "NotApplied" | "Unknown" = "Unknown"
  override get message(): string {
    return `the session with lease ${this.lease.toString(16)} was lost: ${this.reason}`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}
