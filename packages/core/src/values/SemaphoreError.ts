/**
 * The failures of a distributed semaphore, other than those of the store and of a lock.
 */
import * as Schema from "effect/Schema"
import * as json from "../internal/values/json.ts"

/**
 * The semaphore exists with another number of permits. Nothing was acquired.
 *
 * @since 0.1.0
 */
export class PermitsMismatch extends Schema.Error<PermitsMismatch>("@effect-kv/core/SemaphoreError/PermitsMismatch")({
  _tag: Schema.tag("PermitsMismatch"),
  /** The semaphore's name. */
  semaphore: Schema.String,
  /** The number of permits that this client was configured with. */
  permits: Schema.Int,
  /** The number of permits in the store. */
  stored: Schema.Int
}) {
  readonly isRetryable: boolean = false
  readonly outcome: "NotApplied" | "Unknown" = "NotApplied"
  override get message(): string {
    return `the semaphore ${JSON.stringify(this.semaphore)} has ${this.stored} permits in the store, but this client ` +
      `is configured with ${this.permits}; configure every client the same, or change the store with resize`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/**
 * More permits were requested than the semaphore has. The request could never be satisfied. Nothing was acquired.
 *
 * @since 0.1.0
 */
export class TooManyPermits extends Schema.Error<TooManyPermits>("@effect-kv/core/SemaphoreError/TooManyPermits")({
  _tag: Schema.tag("TooManyPermits"),
  /** The semaphore's name. */
  semaphore: Schema.String,
  /** The number of permits that were requested. */
  requested: Schema.Int,
  /** The number of permits that the semaphore has. */
  permits: Schema.Int
}) {
  readonly isRetryable: boolean = false
  readonly outcome: "NotApplied" | "Unknown" = "NotApplied"
  override get message(): string {
    return `${this.requested} permits were requested of the semaphore ${JSON.stringify(this.semaphore)}, which has ` +
      `${this.permits}`
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/**
 * The failures of a semaphore, other than those of the store and of a lock.
 *
 * @since 0.1.0
 */
export type SemaphoreError = PermitsMismatch | TooManyPermits
