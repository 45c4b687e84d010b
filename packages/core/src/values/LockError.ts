/**
 * The failures of a distributed lock, other than those of the store.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as json from "../internal/values/json.ts"
import { LockLost } from "../internal/values/lockLost.ts"
import * as KvError from "./KvError.ts"

export { LockLost }

/**
 * The lock could not be acquired within `acquireTimeout`. Nothing of the attempt is left.
 *
 * @since 0.1.0
 */
export class LockTimeout extends Schema.Error<LockTimeout>("@effect-kv/core/LockError/LockTimeout")({
  _tag: Schema.tag("LockTimeout"),
  /** The lock's name; all names of several locks. */
  lock: Schema.String,
  /** The fencing token it would have been held with; `none` if the attempt had not entered the queue. */
  token: Schema.Option(Schema.BigInt),
  /** How long the attempt took, in whole milliseconds. */
  waitedMillis: Schema.Int,
  /** Why the store could not be reached when the timeout passed; `none` if it could, and another client held the lock. */
  storeFailure: Schema.Option(KvError.Reason),
  /**
   * The key that the attempt waited for, if that key has no lease: something other than a lock put it under `NAME/`, and it
   * blocks the lock until it is deleted.
   */
  blockedBy: Schema.Option(Schema.String)
}) {
  readonly isRetryable: boolean = true
  readonly outcome: "NotApplied" | "Unknown" = "NotApplied"
  override get message(): string {
    const message = `the lock ${JSON.stringify(this.lock)} could not be acquired within ${
      Duration.format(Duration.millis(this.waitedMillis))
    }`
    if (Option.isSome(this.storeFailure)) {
      return `${message}; the store could not be reached: ${this.storeFailure.value.message}`
    }
    return Option.isNone(this.blockedBy)
      ? message
      : `${message}; the key ${
        JSON.stringify(this.blockedBy.value)
      } has no lease and blocks the lock until it is deleted`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/**
 * The lock was held for longer than `maxHold`, and the work under it was interrupted.
 *
 * @since 0.1.0
 */
export class LockHoldExceeded extends Schema.Error<LockHoldExceeded>("@effect-kv/core/LockError/LockHoldExceeded")({
  _tag: Schema.tag("LockHoldExceeded"),
  /** The lock's name; all names of several locks. */
  lock: Schema.String,
  /** The fencing token it was held with; the largest of several locks. */
  token: Schema.BigInt,
  /** The limit, in milliseconds. */
  maxHoldMillis: Schema.Finite
}) {
  readonly isRetryable: boolean = false
  readonly outcome: "NotApplied" | "Unknown" = "Unknown"
  override get message(): string {
    return `the lock ${JSON.stringify(this.lock)} (token ${this.token}) was held for longer than ${
      Duration.format(Duration.millis(this.maxHoldMillis))
    }`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/**
 * The failures of a lock, other than those of the store.
 *
 * @since 0.1.0
 */
export type LockError = LockLost | LockTimeout | LockHoldExceeded
