/**
 * What a lease is: the types that backends and the `Lease` module share.
 */
import type * as Duration from "effect/Duration"

/** A lease as it was granted. */
export interface Lease {
  readonly id: bigint
  /** The time to live the store granted, in whole seconds; it may be more than was asked for. */
  readonly ttl: Duration.Duration
}

/** What the store knows of a lease. */
export interface Status {
  readonly id: bigint
  /** The time to live it was granted with. */
  readonly grantedTtl: Duration.Duration
  /** The time it has left, in whole seconds. */
  readonly remaining: Duration.Duration
  /** The keys attached to it, in order: only if they were asked for. */
  readonly keys: ReadonlyArray<string>
}

/** What to grant. */
export interface GrantOptions {
  /** Time to live, rounded up to whole seconds. The store may grant more: etcd's minimum is 2 seconds by default. */
  readonly ttl: Duration.Input
  /** A positive id of one's own. Default: the store picks one. */
  readonly id?: bigint | undefined
}
