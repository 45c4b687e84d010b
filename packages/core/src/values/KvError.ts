/**
 * Errors of the store: a `KvError` with a typed `reason`.
 *
 * Recover from one reason with `Effect.catchReason("KvError", "Compacted", ...)`. Every reason has an `outcome`, which
 * says what is known of the call's effect on the store, and `isRetryable`, which says whether the same call can be made
 * again. No reason carries a value, a password, a token or key material.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as json from "../internal/values/json.ts"
import { LockLost } from "../internal/values/lockLost.ts"

/**
 * What is known of a failed call's effect on the store.
 *
 * `NotApplied`: it changed nothing, now or later. `Unknown`: a write in it may have been applied, or may still be.
 *
 * @since 0.1.0
 */
export type Outcome = "NotApplied" | "Unknown"

/**
 * No endpoint accepted the call: none was reachable, or none had a leader. The call was not sent, or it only read.
 *
 * @since 0.1.0
 */
export class Unavailable extends Schema.Error<Unavailable>("@effect-kv/core/KvError/Unavailable")({
  _tag: Schema.tag("Unavailable"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = true
  readonly outcome: Outcome = "NotApplied"
}

/**
 * The deadline passed before a response arrived. A write that may have been sent is `Indeterminate` instead.
 *
 * @since 0.1.0
 */
export class DeadlineExceeded extends Schema.Error<DeadlineExceeded>("@effect-kv/core/KvError/DeadlineExceeded")({
  _tag: Schema.tag("DeadlineExceeded"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = true
  readonly outcome: Outcome = "NotApplied"
}

/**
 * The store does not know the caller: the user name or password is wrong, or a token could not be renewed.
 *
 * @since 0.1.0
 */
export class Unauthenticated extends Schema.Error<Unauthenticated>("@effect-kv/core/KvError/Unauthenticated")({
  _tag: Schema.tag("Unauthenticated"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
}

/**
 * The store knows the caller and does not permit the call.
 *
 * @since 0.1.0
 */
export class PermissionDenied extends Schema.Error<PermissionDenied>("@effect-kv/core/KvError/PermissionDenied")({
  _tag: Schema.tag("PermissionDenied"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
}

/**
 * The requested revision is no longer in the history. After a compaction at revision R, reads at R or later and watches
 * from R + 1 on are possible.
 *
 * @since 0.1.0
 */
export class Compacted extends Schema.Error<Compacted>("@effect-kv/core/KvError/Compacted")({
  _tag: Schema.tag("Compacted"),
  /**
   * The revision the store was compacted at; a watch can start at the one after it. `none` if the store did not say: etcd
   * does not for reads.
   */
  compactRevision: Schema.Option(Schema.BigInt)
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
  override get message(): string {
    return Option.match(this.compactRevision, {
      onNone: () => "the requested revision has been compacted; read at a newer one",
      onSome: (revision) => `the requested revision has been compacted (compact revision ${revision}); use a newer one`
    })
  }
  override toJSON(): unknown {
    return { ...json.fieldsOf(this), message: this.message }
  }
}

/**
 * The requested revision is in the future.
 *
 * @since 0.1.0
 */
export class FutureRevision extends Schema.Error<FutureRevision>("@effect-kv/core/KvError/FutureRevision")({
  _tag: Schema.tag("FutureRevision"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
}

/**
 * The lease does not exist: it expired, was revoked, or was never granted.
 *
 * @since 0.1.0
 */
export class LeaseNotFound extends Schema.Error<LeaseNotFound>("@effect-kv/core/KvError/LeaseNotFound")({
  _tag: Schema.tag("LeaseNotFound"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
}

/**
 * A lease with the requested id exists already.
 *
 * @since 0.1.0
 */
export class LeaseExists extends Schema.Error<LeaseExists>("@effect-kv/core/KvError/LeaseExists")({
  _tag: Schema.tag("LeaseExists"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
}

/**
 * The request is invalid. The message says what is wrong and what would be right.
 *
 * @since 0.1.0
 */
export class InvalidRequest extends Schema.Error<InvalidRequest>("@effect-kv/core/KvError/InvalidRequest")({
  _tag: Schema.tag("InvalidRequest"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
}

/**
 * The request is larger than the store accepts (etcd's default: 1.5 MiB).
 *
 * @since 0.1.0
 */
export class RequestTooLarge extends Schema.Error<RequestTooLarge>("@effect-kv/core/KvError/RequestTooLarge")({
  _tag: Schema.tag("RequestTooLarge"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
}

/**
 * The store is full and accepts no more writes until an operator makes space.
 *
 * The write itself may have been applied: etcd returns this error also for the write that passed the quota.
 *
 * @since 0.1.0
 */
export class QuotaExceeded extends Schema.Error<QuotaExceeded>("@effect-kv/core/KvError/QuotaExceeded")({
  _tag: Schema.tag("QuotaExceeded"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "Unknown"
}

/**
 * The client was closed: the scope of its layer has ended.
 *
 * @since 0.1.0
 */
export class Closed extends Schema.Error<Closed>("@effect-kv/core/KvError/Closed")({
  _tag: Schema.tag("Closed"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "NotApplied"
}

/**
 * A write was sent and its outcome is unknown: it was applied once, or not at all, or will be. It is never retried for
 * you.
 *
 * **When to use**
 *
 * To find out what happened, read what the write would have changed. Or make the write conditional (`Kv.compareAndSet`,
 * or a `Compare` on a revision), so that repeating it is harmless.
 *
 * @since 0.1.0
 */
export class Indeterminate extends Schema.Error<Indeterminate>("@effect-kv/core/KvError/Indeterminate")({
  _tag: Schema.tag("Indeterminate"),
  message: Schema.String
}) {
  readonly isRetryable: boolean = false
  readonly outcome: Outcome = "Unknown"
}

/**
 * The store was replaced: the same endpoints lead to another cluster now, or to one that was restored from an older
 * state.
 *
 * **Details**
 *
 * Revisions, leases and fencing tokens of the previous store mean nothing in the new one, so nothing continues across
 * the change. Calls in flight and watches fail with this reason. A write that fails with it may be in the new store.
 *
 * @since 0.1.0
 */
export class StoreReplaced extends Schema.Error<StoreReplaced>("@effect-kv/core/KvError/StoreReplaced")({
  _tag: Schema.tag("StoreReplaced"),
  /** Names the endpoint, and both clusters or both revisions. */
  message: Schema.String,
  outcome: Schema.Literals(["NotApplied", "Unknown"])
}) {
  readonly isRetryable: boolean = false
}

/**
 * The reasons that a call can fail for.
 *
 * @since 0.1.0
 */
export type Reason =
  | Unavailable
  | DeadlineExceeded
  | Unauthenticated
  | PermissionDenied
  | Compacted
  | FutureRevision
  | LeaseNotFound
  | LeaseExists
  | InvalidRequest
  | RequestTooLarge
  | QuotaExceeded
  | Closed
  | Indeterminate
  | StoreReplaced
  | LockLost

/**
 * The schema of {@link Reason}.
 *
 * @since 0.1.0
 */
export const Reason: Schema.Union<[
  typeof Unavailable,
  typeof DeadlineExceeded,
  typeof Unauthenticated,
  typeof PermissionDenied,
  typeof Compacted,
  typeof FutureRevision,
  typeof LeaseNotFound,
  typeof LeaseExists,
  typeof InvalidRequest,
  typeof RequestTooLarge,
  typeof QuotaExceeded,
  typeof Closed,
  typeof Indeterminate,
  typeof StoreReplaced,
  typeof LockLost
]> = Schema.Union([
  Unavailable,
  DeadlineExceeded,
  Unauthenticated,
  PermissionDenied,
  Compacted,
  FutureRevision,
  LeaseNotFound,
  LeaseExists,
  InvalidRequest,
  RequestTooLarge,
  QuotaExceeded,
  Closed,
  Indeterminate,
  StoreReplaced,
  LockLost
])

/**
 * What is known of a failed call besides the reason.
 *
 * @since 0.1.0
 */
export interface Details {
  /** The operation, such as `put`, `txn`, `modify` or `leaseGrant`. */
  readonly operation?: string | undefined
  /** The key or the range, as the caller named it and readable; never a value. */
  readonly key?: string | undefined
  /** The address of the server that was tried last. */
  readonly endpoint?: string | undefined
  /** The gRPC status code of its response. */
  readonly status?: number | undefined
}

/**
 * The error of every operation on a `Kv`.
 *
 * **Details**
 *
 * `operation`, `key`, `endpoint` and `status` say where it happened, if they are known. The message names the operation
 * and the key.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const error = yield* Effect.flip(Kv.put("", "x"))
 *   error.reason._tag // => "InvalidRequest"
 *   error.outcome // => "NotApplied"
 *   error.isRetryable // => false
 *   error.operation // => "put"
 * })
 * ```
 *
 * @since 0.1.0
 */
export class KvError extends Schema.Error<KvError>("@effect-kv/core/KvError")({
  _tag: Schema.tag("KvError"),
  reason: Reason,
  /** The operation that failed, such as `put`, `txn`, `modify` or `leaseGrant`. */
  operation: Schema.optionalKey(Schema.String),
  /** The key or the range of the operation, as the caller named it and readable; never a value. */
  key: Schema.optionalKey(Schema.String),
  /** The address of the server that was tried last. */
  endpoint: Schema.optionalKey(Schema.String),
  /** The gRPC status code of its response. */
  status: Schema.optionalKey(Schema.Finite)
}) {
  override get message(): string {
    return `${this.reason._tag}: ${called(this)}${this.reason.message}`
  }
  /** As data: the message and every field; bigints are decimal strings. */
  override toJSON(): unknown {
    const { _tag, endpoint, isRetryable, key, message, operation, outcome, reason, status } = this
    return { _tag, message, operation, key, endpoint, status, outcome, isRetryable, reason }
  }
  /** True if the call can be repeated: it changed nothing, and may succeed the next time. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
  /** What is known of the call's effect on the store. */
  get outcome(): Outcome {
    return this.reason.outcome
  }
}

const called = ({ key, operation }: Details): string => {
  const words = [operation, key === undefined ? undefined : JSON.stringify(key)].filter((word) => word !== undefined)
  return words.length === 0 ? "" : `${words.join(" ")}: `
}

/**
 * Wraps a reason, with details.
 *
 * @example
 * ```ts
 * import { KvError } from "@effect-kv/core"
 *
 * const error = KvError.make(new KvError.LeaseNotFound({ message: "lease 7 does not exist" }), {
 *   operation: "leaseKeepAlive"
 * })
 * error.message // => "LeaseNotFound: leaseKeepAlive: lease 7 does not exist"
 * ```
 *
 * @since 0.1.0
 */
export const make = (reason: Reason, details: Details = {}): KvError => {
  const { endpoint, key, operation, status } = details
  return new KvError({
    reason,
    ...(operation === undefined ? {} : { operation }),
    ...(key === undefined ? {} : { key }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(status === undefined ? {} : { status })
  })
}

/**
 * Fails with the reason.
 *
 * **When to use**
 *
 * In a backend or a recipe, to reject a call.
 *
 * @example
 * ```ts
 * import { KvError } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const rejected = KvError.fail(new KvError.InvalidRequest({ message: "the limit must be positive" }))
 *
 * const program = Effect.gen(function*() {
 *   const { reason } = yield* Effect.flip(rejected)
 *   reason._tag // => "InvalidRequest"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const fail = (reason: Reason, details?: Details): Effect.Effect<never, KvError> =>
  Effect.fail(make(reason, details))

/**
 * Returns true if the value is a `KvError`.
 *
 * @example
 * ```ts
 * import { KvError } from "@effect-kv/core"
 *
 * KvError.isKvError(KvError.make(new KvError.Closed({ message: "closed" }))) // => true
 * KvError.isKvError(new Error("closed")) // => false
 * ```
 *
 * @since 0.1.0
 */
export const isKvError = (u: unknown): u is KvError => u instanceof KvError
