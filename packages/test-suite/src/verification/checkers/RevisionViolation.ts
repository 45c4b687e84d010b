/**
 * Violations found by `RevisionChecker`.
 */
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations.
 *
 * @since 0.1.0
 */
export type Kind =
  /** A confirmed write is missing among the changes of the store, or differs there. */
  | "LostWrite"
  /** The responses to two calls claim the same change. */
  | "ClaimedTwice"
  /** A change has no writer, or happened before its write was invoked. */
  | "PhantomWrite"
  /** A write was applied more than once. */
  | "DuplicateWrite"
  /** A write was applied although it was reported as not applied. */
  | "RejectedWriteApplied"
  /** A transaction was applied in part. */
  | "SplitWrite"
  /** A response is wrong for the store at its revision. */
  | "WrongResponse"
  /** A response has a revision that the store never had. */
  | "UnknownRevision"
  /** An operation took effect before an operation that was complete when it was invoked. */
  | "RealTimeOrder"
  /** A lease ended without a revocation, before its time to live had passed since the last renewal. */
  | "LeaseEndedEarly"
  /**
   * Responses about a lease contradict each other or its keys: it was granted twice or for less than requested, or is still
   * alive after its revocation.
   */
  | "WrongLease"
  /** The changes of the store contradict each other. */
  | "BrokenStoreHistory"
  /** The budget was exhausted before an order of the operations of a revision was found or ruled out. */
  | "OutOfBudget"

/**
 * A violation.
 *
 * @since 0.1.0
 */
export interface Violation extends Violation_.Violation<Kind> {
  /** The lease that ended early. */
  readonly lease?: bigint
}
