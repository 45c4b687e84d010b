/** Leases as values: the types that backends and the `Lease` module share. */
import type * as Duration from "effect/Duration"

/**
 * A lease as the store granted it.
 *
 * @since 0.1.0
 */
export interface Lease {
  /** The lease's id. */
  readonly id: bigint
  /** The time to live that the store granted, in whole seconds. It may be longer than requested. */
  readonly ttl: Duration.Duration
}

/**
 * The state of a lease in the store.
 *
 * @since 0.1.0
 */
export interface Status {
  /** The lease's id. */
  readonly id: bigint
  /** The time to live that it was granted. */
  readonly grantedTtl: Duration.Duration
  /** The time that is left, in whole seconds. */
  readonly remaining: Duration.Duration
  /** The keys attached to it, in order; empty unless they were requested. */
  readonly keys: ReadonlyArray<string>
}

/**
 * Options of a grant.
 *
 * @since 0.1.0
 */
export interface GrantOptions {
  /** The time to live, rounded up to whole seconds. The store may grant more: etcd's minimum is 2 seconds by default. */
  readonly ttl: Duration.Input
  /** A positive id of your own. Default: the store picks one. */
  readonly id?: bigint | undefined
}
