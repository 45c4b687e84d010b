/**
 * The records of a history: calls, watches, holdings of locks and fenced effects, as plain data.
 */
import type { Value } from "@effect-kv/core/Entry"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"

/**
 * A moment of a history.
 *
 * @since 0.1.0
 */
export interface Moment {
  /** Its unique position among all moments of the history. */
  readonly order: number
  /** The time of the monotonic clock, in nanoseconds. */
  readonly nanos: bigint
}

/**
 * An entry. Its value is a string if it is UTF-8, otherwise bytes.
 *
 * @since 0.1.0
 */
export interface Row {
  readonly key: string
  readonly value: Value
  readonly createRevision: bigint
  readonly modRevision: bigint
  readonly version: number
  /** `0n` for none. */
  readonly lease: bigint
}

/**
 * The request of a call.
 *
 * @since 0.1.0
 */
export type Request =
  | { readonly _tag: "Execute"; readonly op: Op.Op }
  | { readonly _tag: "LeaseGrant"; readonly ttlMillis: number; readonly id?: bigint }
  | { readonly _tag: "LeaseKeepAlive"; readonly id: bigint }
  | { readonly _tag: "LeaseRevoke"; readonly id: bigint }
  | { readonly _tag: "LeaseTimeToLive"; readonly id: bigint; readonly keys: boolean }

/**
 * The response to an operation: `Op.Response` as plain data.
 *
 * @since 0.1.0
 */
export type OpResponse =
  | {
    readonly _tag: "Range"
    readonly revision: bigint
    readonly entries: ReadonlyArray<Row>
    readonly count: number
    readonly more: boolean
  }
  | { readonly _tag: "Put"; readonly revision: bigint; readonly previous?: Row }
  | {
    readonly _tag: "Delete"
    readonly revision: bigint
    readonly deleted: number
    readonly previous: ReadonlyArray<Row>
  }
  | {
    readonly _tag: "Txn"
    readonly revision: bigint
    readonly succeeded: boolean
    readonly responses: ReadonlyArray<OpResponse>
  }

/**
 * The response to a call.
 *
 * @since 0.1.0
 */
export type Response =
  | OpResponse
  | { readonly _tag: "Lease"; readonly id: bigint; readonly ttlMillis: number }
  | { readonly _tag: "LeaseRevoked" }
  | {
    readonly _tag: "LeaseStatus"
    readonly id: bigint
    readonly grantedTtlMillis: number
    readonly remainingMillis: number
    readonly keys: ReadonlyArray<string>
  }

/**
 * A failure.
 *
 * @since 0.1.0
 */
export interface Failure {
  readonly _tag: "Failed"
  readonly reason: KvError.Reason["_tag"]
  /** Whether a write may have been applied. */
  readonly outcome: KvError.Outcome
  readonly message: string
}

/**
 * How a call ended. The outcome of a write that was interrupted, died or is pending is unknown, too.
 *
 * @since 0.1.0
 */
export type Outcome =
  | { readonly _tag: "Responded"; readonly response: Response }
  | Failure
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Died"; readonly message: string }
  | { readonly _tag: "Pending" }

/**
 * A call to a function of a backend other than `watch`.
 *
 * @since 0.1.0
 */
export interface Call {
  readonly _tag: "Call"
  /** Unique in the history. */
  readonly id: number
  /** The client's name. */
  readonly client: string
  readonly request: Request
  readonly invoked: Moment
  /** Absent while the call is pending. */
  readonly completed?: Moment
  readonly outcome: Outcome
}

/**
 * An event of a watch.
 *
 * @since 0.1.0
 */
export type Event =
  | {
    readonly _tag: "Put"
    readonly key: string
    readonly revision: bigint
    readonly entry: Row
    readonly isCreate: boolean
    readonly previous?: Row
  }
  | { readonly _tag: "Delete"; readonly key: string; readonly revision: bigint; readonly previous?: Row }

/**
 * The events of one revision, as a watch delivered them.
 *
 * @since 0.1.0
 */
export interface Batch {
  readonly at: Moment
  readonly revision: bigint
  readonly events: ReadonlyArray<Event>
}

/**
 * A watch.
 *
 * @since 0.1.0
 */
export interface WatchCall {
  readonly _tag: "Watch"
  readonly id: number
  readonly client: string
  readonly request: Watch.WatchRequest
  readonly invoked: Moment
  /** When the store confirmed it, and the revision after which it delivers all events. Absent if it was not confirmed. */
  readonly confirmed?: { readonly at: Moment; readonly revision: bigint }
  /** In the order of their delivery. */
  readonly batches: ReadonlyArray<Batch>
  /** How it ended: `Closed` by its scope, or by a failure. Absent while it is open. */
  readonly ended?: {
    readonly at: Moment
    readonly how:
      | { readonly _tag: "Closed" }
      | (Failure & { readonly compactRevision?: bigint })
      | { readonly _tag: "Interrupted" }
      | { readonly _tag: "Died"; readonly message: string }
  }
}

/**
 * The time during which a client held a lock, as far as the client knew.
 *
 * @since 0.1.0
 */
export interface Holding {
  readonly _tag: "Holding"
  readonly id: number
  readonly client: string
  readonly lock: string
  readonly token: bigint
  readonly acquired: Moment
  /** When it ended: before the release, or when the client learned of the loss. Absent while the lock is held. */
  readonly ended?: { readonly at: Moment; readonly how: "Released" | "Lost" }
}

/**
 * An effect on a resource under a lock, fenced by the token of the lock.
 *
 * @since 0.1.0
 */
export interface FencedEffect {
  readonly _tag: "Effect"
  readonly id: number
  readonly client: string
  readonly lock: string
  readonly token: bigint
  /** The resource, for example the key of a counter. */
  readonly resource: string
  readonly invoked: Moment
  readonly completed?: Moment
  /** `Rejected`: it changed nothing. `Unknown`: it may have changed the resource, or may still do so. */
  readonly outcome: "Accepted" | "Rejected" | "Unknown"
  /** The revision at which it was accepted, if known. */
  readonly revision?: bigint
}

/**
 * A record of a history.
 *
 * @since 0.1.0
 */
export type Record = Call | WatchCall | Holding | FencedEffect

/**
 * All records.
 *
 * @since 0.1.0
 */
export interface History {
  /** In the order of their invocation. */
  readonly calls: ReadonlyArray<Call>
  readonly watches: ReadonlyArray<WatchCall>
  readonly holdings: ReadonlyArray<Holding>
  readonly effects: ReadonlyArray<FencedEffect>
}
