/**
 * The loss of a session.
 */
import * as Schema from "effect/Schema"
import * as json from "../values/json.ts"

/** The session has ended: its lease was lost, or its scope or its client was closed. It never comes back. */
export class SessionLost extends Schema.Error<SessionLost>("@effect-kv/core/Session/SessionLost")({
  _tag: Schema.tag("SessionLost"),
  /** The id of its lease. */
  lease: Schema.BigInt,
  /** How it was lost. */
  how: Schema.String
}) {
  override get message(): string {
    return `the session with lease ${this.lease.toString(16)} was lost: ${this.how}`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}
