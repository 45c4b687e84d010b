/**
 * Leases: a promise to be alive. Keys attached to a lease are deleted when it expires or is revoked.
 *
 * This module is the raw lease, one call each. Most programs want a temporary key or a lock, which keep theirs alive.
 */
import * as Effect from "effect/Effect"
import * as internals from "../internal/kv/internals.ts"
import * as internal from "../internal/values/grantSeconds.ts"
import * as leaseId from "../internal/values/leaseId.ts"
import * as leaseRecord from "../internal/values/leaseRecord.ts"
import type * as KvError from "../values/KvError.ts"
import type { GrantOptions, Lease, Status } from "../values/LeaseModel.ts"
import { Kv } from "./Kv.ts"

export type {
  /** What to grant. */
  GrantOptions,
  /** A lease as it was granted. */
  Lease,
  /** What the store knows of a lease. */
  Status
}

/** Makes a lease. For backends. */
export const make: (fields: Lease) => Lease = leaseRecord.make

/** Makes the status of a lease. For backends. */
export const makeStatus: (fields: Status) => Status = leaseRecord.makeStatus

/** The longest time to live that can be asked for, in seconds: etcd's. */
export const maxTtlSeconds: number = internal.maxTtlSeconds

/**
 * A random positive id for a lease: so that a request that is sent again, or whose response is lost, is about a lease that
 * the client knows. Cryptographically random, whatever `Random` a test installs: clients that shared a seed would choose
 * the same lease, and one could revoke the other's.
 */
export const randomId: Effect.Effect<bigint> = leaseId.random

/** Grants a lease. It expires unless {@link keepAlive} is called within its time to live. */
export const grant = (options: GrantOptions): Effect.Effect<Lease, KvError.KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => internals.of(kv).backend.leaseGrant(options))

/** Starts the lease's time to live anew, once. Fails with `LeaseNotFound` if it is gone. */
export const keepAlive = (id: bigint): Effect.Effect<Lease, KvError.KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => internals.of(kv).backend.leaseKeepAlive(id))

/** Ends the lease and deletes the keys attached to it, in one revision. Fails with `LeaseNotFound` if it is gone. */
export const revoke = (id: bigint): Effect.Effect<void, KvError.KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => internals.of(kv).backend.leaseRevoke(id))

/** How long the lease has left, and on request which keys it holds. Fails with `LeaseNotFound` if it is gone. */
export const timeToLive = (
  id: bigint,
  options?: { readonly keys?: boolean | undefined }
): Effect.Effect<Status, KvError.KvError, Kv> =>
  Effect.flatMap(Kv, (kv) => internals.of(kv).backend.leaseTimeToLive(id, options))
