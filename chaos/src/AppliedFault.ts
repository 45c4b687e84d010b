/**
 * A fault as it was applied: when, and what came of it.
 */
import type { Fault } from "./Fault.ts"

/** A fault that was applied, or that could not be. */
export interface AppliedFault {
  readonly fault: Fault
  /** By the monotonic clock, in nanoseconds, as in a history. */
  readonly began: bigint
  readonly ended: bigint
  /** When the cluster had a quorum again and the links were healed. */
  readonly healed: bigint
  /** The leader that the fault deposed, if it revoked leases when it resumed. */
  readonly deposed?: DeposedLeader | undefined
  /** Why the fault could not be applied. */
  readonly problem?: string | undefined
}

/** A leader that was deposed while it was stopped, and revoked leases when it resumed. */
export interface DeposedLeader {
  /** When it resumed, by the monotonic clock, in nanoseconds. */
  readonly resumed: bigint
  /** How many leases it revoked as expired since it was stopped. */
  readonly revoked: number
}

/** What a fault reports when it is over. */
export interface Outcome {
  /** When the fault was over, by the monotonic clock. Absent if that is when its effect ended. */
  readonly ended?: bigint | undefined
  /** When there was a quorum again, by the monotonic clock. Absent if that is when its effect ended. */
  readonly healed?: bigint | undefined
  readonly deposed?: DeposedLeader | undefined
}
