/**
 * The failures of a distributed lock, other than those of the store.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as json from "../internal/values/json.ts"
import * as lockKind from "../internal/values/lockKind.ts"
import { LockLost } from "../internal/values/lockLost.ts"
import * as KvError from "./KvError.ts"

export { LockLost }

/**
 * The lock could not be acquired within `acquireTimeout`. The attempt leaves nothing in the store.
 *
 * @since 0.1.0
 */
export class LockTimeout extends Schema.Error<LockTimeout>("@effect-kv/core/LockError/LockTimeout")({
  _tag: Schema.tag("LockTimeout"),
  /** What could not be acquired: a lock, the leadership of an election, or permits of a semaphore. */
  kind: lockKind.field,
  /** The name of the lock, election or semaphore; for several locks, all their names. */
  lock: Schema.String,
  /** The fencing token of the attempt; `none` if it had not entered the queue. */
  token: Schema.Option(Schema.BigInt),
  /** How long the attempt took, in whole milliseconds. */
  waitedMillis: Schema.Int,
  /** Why the store could not be reached when the time ran out; `none` if another client held the lock. */
  storeFailure: Schema.Option(KvError.Reason),
  /**
   * The key that the attempt waited for, if that key has no lease. It was not put by a lock, and it blocks the lock
   * until it is deleted.
   */
  blockedBy: Schema.Option(Schema.String)
}) {
  readonly isRetryable: boolean = true
  readonly outcome: "NotApplied" | "Unknown" = "NotApplied"
  override get message(): string {
    const message = `${lockKind.subjectOf(this.kind, this.lock)} could not be acquired within ${
      Duration.format(Duration.millis(this.waitedMillis))
    }`
    if (Option.isSome(this.storeFailure)) {
      return `${message}; the store could not be reached: ${this.storeFailure.value.message}`
    }
    return Option.isNone(this.blockedBy)
      ? message
      : `${message}; the key ${
        JSON.stringify(this.blockedBy.value)
      } has no lease and blocks the ${this.kind} until it is deleted`
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
  /** What was held: a lock, the leadership of an election, permits of a semaphore, or a run of what runs once. */
  kind: lockKind.field,
  /** The name of the lock, election, semaphore or run; for several locks, all their names. */
  lock: Schema.String,
  /** The lock's fencing token; for several locks, the largest. */
  token: Schema.BigInt,
  /** The limit, in milliseconds. */
  maxHoldMillis: Schema.Finite
}) {
  readonly isRetryable: boolean = false
  readonly outcome: "NotApplied" | "Unknown" = "Unknown"
  override get message(): string {
    return `${lockKind.subjectOf(this.kind, this.lock)} (token ${this.token}) was held for longer than ${
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
