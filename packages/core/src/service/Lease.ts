/**
 * Leases: a promise to be alive. Keys attached to a lease are deleted when it expires or is revoked.
 *
 * This module is the raw lease, one call each. Most programs want a temporary key or a lock, which keep theirs alive.
 */
import * as Effect from "effect/Effect"
import * as internals from "../internal/kv/internals.ts"
import * as internal from "../internal/values/grantSeconds.ts"
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

/** What is wrong with the id of a lease that is to be there, `undefined` where nothing is. For backends. */
export const invalidId = (id: bigint): string | undefined =>
  typeof id === "bigint" && BigInt.asIntN(64, id) === id && id !== 0n
    ? undefined
    : `a lease id is a non-zero 64-bit integer, a bigint, not ${id}`

/** The whole seconds to ask the store for, or what is wrong with the request. For backends. */
export const grantSeconds: (options: GrantOptions) => Effect.Effect<number, KvError.KvError> = internal.grantSeconds
