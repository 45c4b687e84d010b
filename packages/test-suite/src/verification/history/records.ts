/** Records of a history, as plain data: calls, watches, holdings of locks and fenced effects. */
import type { Value } from "@effect-kv/core/Entry"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"

/**
 * When something happened.
 *
 * @since 0.1.0
 */
export interface Moment {
  /** Its place in the order of all moments of the history. It is unique. */
  readonly order: number
  /** The time of the monotonic clock, in nanoseconds. */
  readonly nanos: bigint
}

/**
 * An entry. Its value is a string if it is UTF-8, else bytes.
 *
 * @since 0.1.0
 */
export interface Row {
  readonly key: string
  readonly value: Value
  readonly createRevision: bigint
  readonly modRevision: bigint
  readonly version: number
  /** The id of its lease; `0n` for none. */
  readonly lease: bigint
}

/**
 * The request of a call, as plain data.
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
export type Response =
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
    readonly responses: ReadonlyArray<Response>
  }

/**
 * The response to a call.
 *
 * @since 0.1.0
 */
export type Answer =
  | Response
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
 * The failure of a call or a watch.
 *
 * @since 0.1.0
 */
export interface Failure {
  readonly _tag: "Failed"
  readonly reason: KvError.Reason["_tag"]
  /** What is known of the effect of a write. */
  readonly outcome: KvError.Outcome
  readonly message: string
}

/**
 * How a call ended. Nothing is known of a write that was interrupted, died or is pending, as with an `Unknown` outcome.
 *
 * @since 0.1.0
 */
export type Outcome =
  | { readonly _tag: "Answered"; readonly answer: Answer }
  | Failure
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Died"; readonly message: string }
  | { readonly _tag: "Pending" }

/**
 * A call of one of a backend's functions other than `watch`.
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
 * A change as a watch delivered it.
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
  /** When the store confirmed it, and the revision after which every event is delivered. Absent if the store did not. */
  readonly confirmed?: { readonly at: Moment; readonly revision: bigint }
  /** In the order of their delivery. */
  readonly batches: ReadonlyArray<Batch>
  /** How it ended: `Closed` with its scope, or with a failure. Absent while it is open. */
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
 * The time through which a client held a lock, as far as the client knew.
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
  /** When it stopped: before it released the lock, or when it learned of the loss. Absent while it is held. */
  readonly ended?: { readonly at: Moment; readonly how: "Released" | "Lost" }
}

/**
 * An effect on a resource under a lock, fenced by the lock's token.
 *
 * @since 0.1.0
 */
export interface FencedEffect {
  readonly _tag: "Effect"
  readonly id: number
  readonly client: string
  readonly lock: string
  readonly token: bigint
  /** The resource, such as the key of a counter. */
  readonly resource: string
  readonly invoked: Moment
  readonly completed?: Moment
  /** `Rejected`: it changed nothing. `Unknown`: it may have changed the resource, or may still. */
  readonly outcome: "Accepted" | "Rejected" | "Unknown"
  /** The revision at which it was accepted, if it is known. */
  readonly revision?: bigint
}

/**
 * Any record of a history.
 *
 * @since 0.1.0
 */
export type Record = Call | WatchCall | Holding | FencedEffect

/**
 * Every record of a run.
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
