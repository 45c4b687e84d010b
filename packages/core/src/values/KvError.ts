/**
 * The one error of this library: a `KvError` with a typed `reason`.
 *
 * Recover from one reason with `Effect.catchReason("KvError", "Compacted", ...)`. Every reason says whether the call
 * may have changed the store (`outcome`) and whether it can be repeated (`isRetryable`). No reason ever contains a
 * value, a password, a token or key material.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as json from "../internal/values/json.ts"
import { LockLost } from "../internal/values/lockLost.ts"

/**
 * The effect of a failed call on the store.
 *
 * `NotApplied`: the call changed nothing and never will. `Unknown`: a write in it may have been applied, or may still
 * be.
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
 * The store rejected the credentials: a wrong user name or password, or a token that could not be renewed.
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
 * The user lacks the permission for this call.
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
 * The requested revision was compacted. After a compaction at revision R the store can still be read as it was at R,
 * and watches can start at R + 1.
 *
 * @since 0.1.0
 */
export class Compacted extends Schema.Error<Compacted>("@effect-kv/core/KvError/Compacted")({
  _tag: Schema.tag("Compacted"),
  /**
   * The revision at which the store was compacted; a watch can start at the next one. `none` if the store did not
   * report it, as etcd does for reads.
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
 * The store is full and accepts no more writes until space is freed.
 *
 * The write itself may have been applied: etcd also fails the write that exceeded the quota.
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
 * A write was sent and its outcome is unknown: it was applied once, will be, or never is. The library never retries it.
 *
 * To find out, read the keys that it would have changed. Or make the write conditional (`Kv.compareAndSet`, a `Compare`
 * on a revision), so that it can be repeated without harm.
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
 * The store was replaced: the endpoints now lead to another cluster, or to one that was restored from an older state.
 *
 * **Details**
 *
 * Earlier revisions, leases and fencing tokens are meaningless in the new store, so nothing continues across the
 * change. Calls in flight and every watch fail with this reason. A write that fails with this reason may be in the new
 * store.
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
 * The reasons why a call can fail.
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
 * Schema of {@link Reason}.
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
 * Further details of a failed call.
 *
 * @since 0.1.0
 */
export interface Details {
  /** The operation, such as `put`, `txn`, `modify` or `leaseGrant`. */
  readonly operation?: string | undefined
  /** Its key or range, readable and as the caller named it; never a value. */
  readonly key?: string | undefined
  /** The address of the server that was tried last. */
  readonly endpoint?: string | undefined
  /** The code of its response: a gRPC status, or the SQLSTATE of a database. */
  readonly status?: number | string | undefined
}

/**
 * The error of every operation on a `Kv`.
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
  /** The key or range of the operation, readable and as the caller named it; never a value. */
  key: Schema.optionalKey(Schema.String),
  /** The address of the server that was tried last. */
  endpoint: Schema.optionalKey(Schema.String),
  /** The code of its response: a gRPC status, or the SQLSTATE of a database. */
  status: Schema.optionalKey(Schema.Union([Schema.Finite, Schema.String]))
}) {
  override get message(): string {
    return `${this.reason._tag}: ${callOf(this)}${this.reason.message}`
  }
  /** As data: the message and every field; bigints are decimal strings. */
  override toJSON(): unknown {
    const { _tag, endpoint, isRetryable, key, message, operation, outcome, reason, status } = this
    return { _tag, message, operation, key, endpoint, status, outcome, isRetryable, reason }
  }
  /** Whether the call can be repeated: it changed nothing, and may succeed the next time. */
  get isRetryable(): boolean {
    return this.reason.isRetryable
  }
  /** The effect of the call on the store. */
  get outcome(): Outcome {
    return this.reason.outcome
  }
}

const callOf = ({ key, operation }: Details): string => {
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
 * An effect that fails with the reason.
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
 * Whether a value is a `KvError`.
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
