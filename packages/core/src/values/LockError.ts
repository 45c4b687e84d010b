/**
 * What can go wrong with a distributed lock, beside what can go wrong with the store.
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import * as json from "../internal/values/json.ts"
import { LockLost } from "../internal/values/lockLost.ts"
import * as KvError from "./KvError.ts"

export {
  /** The lock is not, or may not be, held any more. */
  LockLost
}

/** The lock could not be had within `acquireTimeout`. Nothing of the attempt is left. */
export class LockTimeout extends Schema.Error<LockTimeout>("@effect-kv/core/LockError/LockTimeout")({
  _tag: Schema.tag("LockTimeout"),
  /** The lock's name. */
  lock: Schema.String,
  /** The fencing token it would have been held with; `0n` if there was none yet. */
  token: Schema.BigInt,
  /** How long it was waited for, in whole milliseconds. */
  waitedMillis: Schema.Int,
  /** Why the store could not be reached when the time was over. Absent if the store could, and another held the lock. */
  reason: Schema.optional(KvError.Reason)
}) {
  readonly isRetryable: boolean = true
  readonly outcome: "NotApplied" | "Unknown" = "NotApplied"
  override get message(): string {
    const message = `the lock ${JSON.stringify(this.lock)} could not be had within ${
      Duration.format(Duration.millis(this.waitedMillis))
    }`
    return this.reason === undefined ? message : `${message}; the store was out of reach: ${this.reason.message}`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/** The lock was held for longer than `maxHold`, and what was done under it was interrupted. */
export class LockHoldExceeded extends Schema.Error<LockHoldExceeded>("@effect-kv/core/LockError/LockHoldExceeded")({
  _tag: Schema.tag("LockHoldExceeded"),
  /** The lock's name. */
  lock: Schema.String,
  /** The fencing token it was held with. */
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

/** All of them. */
export type LockError = LockLost | LockTimeout | LockHoldExceeded
