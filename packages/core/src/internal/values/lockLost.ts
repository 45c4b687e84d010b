/**
 * The loss of a lock. It has its own module because it is both a failure of locks and a reason of `KvError`.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as json from "./json.ts"
import * as lockKind from "./lockKind.ts"

/**
 * The lock is not, or may not be, held any more: its lease ended, its key was deleted, or its lease could not be
 * renewed in time. Also the reason of the `KvError` with which a fenced write is rejected; such a write changed
 * nothing.
 *
 * @since 0.1.0
 */
export class LockLost extends Schema.Error<LockLost>("@effect-kv/core/LockError/LockLost")({
  _tag: Schema.tag("LockLost"),
  /** What was lost: a lock, the leadership of an election, permits of a semaphore, a slot, or a run of what runs once. */
  kind: lockKind.field,
  /**
   * The name of the lock, election, semaphore or run, or the key of the slot. If it is not known which of several locks
   * was lost, all their names.
   */
  lock: Schema.String,
  /** The fencing token of the holder or waiter. If it is not known which of several locks was lost, the largest. */
  token: Schema.BigInt,
  /** Why it was lost, in words. */
  reason: Schema.String,
  /**
   * `NotApplied`: a write was rejected, or the lock was lost while waiting for it. `Unknown`: the loss ended work under
   * the lock that may have written.
   */
  outcome: Schema.Literals(["NotApplied", "Unknown"]).pipe(
    Schema.withConstructorDefault(Effect.succeed<"NotApplied" | "Unknown">("NotApplied"))
  )
}) {
  readonly isRetryable: boolean = false
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
  override get message(): string {
    return `${lockKind.subjectOf(this.kind, this.lock)} (token ${this.token}) was lost: ${this.reason}`
  }
}
