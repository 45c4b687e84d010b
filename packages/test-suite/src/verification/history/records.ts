/**
 * The records of a history: calls, watches, holdings of locks and fenced effects, as plain data.
 */
import type { Value } from "@effect-kv/core/Entry"
import type * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"

/** When something happened. */
export interface Moment {
  /** Its place in the order of all moments of the history: no two have the same. */
  readonly order: number
  /** By the monotonic clock, in nanoseconds. */
  readonly nanos: bigint
}

/** An entry. Its value is text where it is UTF-8, else bytes. */
export interface Row {
  readonly key: string
  readonly value: Value
  readonly createRevision: bigint
  readonly modRevision: bigint
  readonly version: number
  /** `0n` for none. */
  readonly lease: bigint
}

/** What was asked in a call: plain data, operations too. */
export type Request =
  | { readonly _tag: "Execute"; readonly op: Op.Op }
  | { readonly _tag: "LeaseGrant"; readonly ttlMillis: number; readonly id?: bigint }
  | { readonly _tag: "LeaseKeepAlive"; readonly id: bigint }
  | { readonly _tag: "LeaseRevoke"; readonly id: bigint }
  | { readonly _tag: "LeaseTimeToLive"; readonly id: bigint; readonly keys: boolean }

/** What an operation was answered with: `Op.Response` as plain data. */
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

/** What a call was answered with. */
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

/** How something failed. */
export interface Failure {
  readonly _tag: "Failed"
  readonly reason: KvError.Reason["_tag"]
  /** What is known of the effect of a write. */
  readonly outcome: KvError.Outcome
  readonly message: string
}

/** How a call ended. Of a write that was interrupted, died or has not ended nothing is known, as of an `Unknown` one. */
export type Outcome =
  | { readonly _tag: "Answered"; readonly answer: Answer }
  | Failure
  | { readonly _tag: "Interrupted" }
  | { readonly _tag: "Died"; readonly message: string }
  | { readonly _tag: "Pending" }

/** A call of one of the functions of a backend but `watch`. */
export interface Call {
  readonly _tag: "Call"
  /** Unique in the history. */
  readonly id: number
  /** The client's name. */
  readonly client: string
  readonly request: Request
  readonly invoked: Moment
  /** Absent while it is pending. */
  readonly completed?: Moment
  readonly outcome: Outcome
}

/** A change as a watch delivered it. */
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

/** What a watch delivered as the events of one revision. */
export interface Batch {
  readonly at: Moment
  readonly revision: bigint
  readonly events: ReadonlyArray<Event>
}

/** A watch. */
export interface WatchCall {
  readonly _tag: "Watch"
  readonly id: number
  readonly client: string
  readonly request: Watch.WatchRequest
  readonly invoked: Moment
  /** When the store confirmed it, and the revision after which everything is delivered. Absent if it did not. */
  readonly confirmed?: { readonly at: Moment; readonly revision: bigint }
  /** In the order they were delivered. */
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

/** The time through which a client held a lock, as far as it knew. */
export interface Holding {
  readonly _tag: "Holding"
  readonly id: number
  readonly client: string
  readonly lock: string
  readonly token: bigint
  readonly acquired: Moment
  /** When it stopped: before it gave the lock back, or when it learned that it was lost. Absent while it is held. */
  readonly ended?: { readonly at: Moment; readonly how: "Released" | "Lost" }
}

/** Something that was done to a resource under a lock, with the lock's token to fence it. */
export interface FencedEffect {
  readonly _tag: "Effect"
  readonly id: number
  readonly client: string
  readonly lock: string
  readonly token: bigint
  /** What it was done to: for instance the key of a counter. */
  readonly resource: string
  readonly invoked: Moment
  readonly completed?: Moment
  /** `Rejected`: it changed nothing. `Unknown`: it may have, or may yet. */
  readonly outcome: "Accepted" | "Rejected" | "Unknown"
  /** The revision at which it was accepted, where that is known. */
  readonly revision?: bigint
}

/** Anything that is recorded. */
export type Record = Call | WatchCall | Holding | FencedEffect

/** Everything that was recorded. */
export interface History {
  /** In the order of their invocation. */
  readonly calls: ReadonlyArray<Call>
  readonly watches: ReadonlyArray<WatchCall>
  readonly holdings: ReadonlyArray<Holding>
  readonly effects: ReadonlyArray<FencedEffect>
}
