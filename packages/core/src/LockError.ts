/**
 * What can go wrong with a distributed lock, beside what can go wrong with the store.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * The lock is not, or may not be, held any more: its lease ended, its key was deleted, or the store could not be asked
 * in time. Also the reason of the `KvError` that a fenced write is rejected with; such a write changed nothing.
 */
export class LockLost extends Schema.Error<LockLost>("@effect-kv/core/LockError/LockLost")({
  _tag: Schema.tag("LockLost"),
  /** The lock's name. */
  lock: Schema.String,
  /** The fencing token it was held, or waited for, with. */
  token: Schema.BigInt,
  /** How it was lost. */
  how: Schema.String,
  /**
   * `NotApplied`: a write was rejected, or the lock was lost while it was waited for. `Unknown`: it ended work that was done
   * under the lock, and may have written before.
   */
  outcome: Schema.Literals(["NotApplied", "Unknown"]).pipe(
    Schema.withConstructorDefault(Effect.succeed<"NotApplied" | "Unknown">("NotApplied"))
  )
}) {
  readonly isRetryable: boolean = false
  override toJSON(): unknown {
    return {
      _tag: this._tag,
      message: this.message,
      lock: this.lock,
      token: `${this.token}`,
      how: this.how,
      outcome: this.outcome
    }
  }
  override get message(): string {
    return `the lock ${JSON.stringify(this.lock)} (token ${this.token}) was lost: ${this.how}`
  }
}

/** The lock could not be had within `acquireTimeout`. Nothing of the attempt is left. */
export class LockTimeout extends Schema.Error<LockTimeout>("@effect-kv/core/LockError/LockTimeout")({
  _tag: Schema.tag("LockTimeout"),
  /** The lock's name. */
  lock: Schema.String,
  /** The fencing token it would have been held with; `0n` if there was none yet. */
  token: Schema.BigInt,
  /** How long it was waited for, in milliseconds. */
  waitedMillis: Schema.Finite
}) {
  readonly isRetryable: boolean = true
  readonly outcome: "NotApplied" | "Unknown" = "NotApplied"
  override toJSON(): unknown {
    return {
      _tag: this._tag,
      message: this.message,
      lock: this.lock,
      token: `${this.token}`,
      waitedMillis: this.waitedMillis
    }
  }
  override get message(): string {
    return `the lock ${JSON.stringify(this.lock)} could not be had within ${
      Duration.format(Duration.millis(this.waitedMillis))
    }`
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
  override toJSON(): unknown {
    return {
      _tag: this._tag,
      message: this.message,
      lock: this.lock,
      token: `${this.token}`,
      maxHoldMillis: this.maxHoldMillis
    }
  }
  override get message(): string {
    return `the lock ${JSON.stringify(this.lock)} (token ${this.token}) was held for longer than ${
      Duration.format(Duration.millis(this.maxHoldMillis))
    }`
  }
}

/** All of them. */
export type LockError = LockLost | LockTimeout | LockHoldExceeded
