/**
 * Violations that `RevisionChecker` finds.
 */
import type * as Violation_ from "./Violation.ts"

/**
 * The kinds of violations that this checker finds.
 *
 * @since 0.1.0
 */
export type Kind =
  /** A write that was confirmed is not in the store's history, or not as it was confirmed. */
  | "LostWrite"
  /** Two calls were told that they made the same change. */
  | "ClaimedTwice"
  /** Something is in the store's history that nobody asked for, or not yet. */
  | "PhantomWrite"
  /** A write is in the store's history more often than it was asked for. */
  | "DuplicateWrite"
  /** A write is in the store's history that was reported as not applied. */
  | "RefusedWriteApplied"
  /** Part of a transaction is in the store's history, at some revision, and the rest is not. */
  | "SplitWrite"
  /** An answer is not right for the store at its revision. */
  | "WrongAnswer"
  /** An answer has a revision that the store never had. */
  | "UnknownRevision"
  /** An operation took effect before something that was complete when it was invoked. */
  | "RealTimeOrder"
  /** A lease ended that nobody had revoked, and that was kept alive shorter than its time ago. */
  | "LeaseEndedEarly"
  /**
   * Answers about a lease contradict each other or the keys it had: it was granted for less than was asked for, or twice, or
   * lives on though it was revoked.
   */
  | "WrongLease"
  /** The store's own history contradicts itself. */
  | "BrokenStoreHistory"
  /** Whether the operations of a revision can be put in order was not found out within the budget. */
  | "OutOfBudget"

/**
 * A violation that this checker found.
 *
 * @since 0.1.0
 */
export interface Violation extends Violation_.Violation<Kind> {
  /** The lease that ended early. */
  readonly lease?: bigint
}
