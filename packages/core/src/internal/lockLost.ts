/**
 * The loss of a lock. In a module of its own, for it is a failure of locks and a reason of `KvError`, and both need it.
 */
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
  how: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: "NotApplied" | "Unknown" = "NotApplied"
  override get message(): string {
    return `the lock ${JSON.stringify(this.lock)} (token ${this.token}) was lost: ${this.how}`
  }
}
