/**
 * The failures of an election, other than those of the store and of a lock.
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import * as json from "../internal/values/json.ts"

/**
 * The leader's health check failed or did not end in time. The leadership was given up, and the work under it was
 * interrupted.
 *
 * @since 0.1.0
 */
export class UnhealthyLeader extends Schema.Error<UnhealthyLeader>("@effect-kv/core/ElectionError/UnhealthyLeader")({
  _tag: Schema.tag("UnhealthyLeader"),
  /** The election's name. */
  election: Schema.String,
  /** The leader's fencing token. */
  token: Schema.BigInt,
  /** `Failed`: the check failed or died. `TimedOut`: it did not end in time. */
  how: Schema.Literals(["Failed", "TimedOut"]),
  /** How long the check may take, in milliseconds. */
  timeoutMillis: Schema.Finite,
  /** The cause of the check's failure, if it failed. */
  cause: Schema.optionalKey(Schema.Defect())
}) {
  readonly isRetryable: boolean = false
  readonly outcome: "NotApplied" | "Unknown" = "Unknown"
  override get message(): string {
    return `the leadership of ${JSON.stringify(this.election)} (token ${this.token}) was given up: its health check ${
      this.how === "Failed" ? "failed" : `did not end within ${Duration.format(Duration.millis(this.timeoutMillis))}`
    }`
  }
  override toJSON(): unknown {
    const { cause: _, ...fields } = this
    return { ...json.fieldsOf(fields), message: this.message }
  }
}

/**
 * The failures of an election, other than those of the store and of a lock.
 *
 * @since 0.1.0
 */
export type ElectionError = UnhealthyLeader
