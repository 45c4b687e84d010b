/**
 * Leases as values: the types that backends and the `Lease` module share.
 */
import type * as Duration from "effect/Duration"

/**
 * A lease as it was granted.
 *
 * @since 0.1.0
 */
export interface Lease {
  /** The lease's id. */
  readonly id: bigint
  /** The time to live that the store granted, in whole seconds. It may be more than requested. */
  readonly ttl: Duration.Duration
}

/**
 * The store's status of a lease.
 *
 * @since 0.1.0
 */
export interface Status {
  /** The lease's id. */
  readonly id: bigint
  /** The granted time to live. */
  readonly grantedTtl: Duration.Duration
  /** The time left, in whole seconds. */
  readonly remaining: Duration.Duration
  /** The keys attached to the lease, in order; empty unless they were requested. */
  readonly keys: ReadonlyArray<string>
}

/**
 * Options of a grant.
 *
 * @since 0.1.0
 */
export interface GrantOptions {
  /** Time to live, rounded up to whole seconds. The store may grant more: etcd's minimum is 2 seconds by default. */
  readonly ttl: Duration.Input
  /** A positive id. Default: the store chooses one. */
  readonly id?: bigint | undefined
}
