/**
 * A lease of a runner, and when it was renewed. Only `refresh` renews it: a runner whose `Sharding` hangs must
 * lose its shards.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Cluster } from "./cluster.ts"

export interface HeldLease {
  readonly id: bigint
  readonly ttlMillis: number
  /** When the last renewal that succeeded was sent. */
  renewedAt: number
}

export const grant = (cluster: Cluster): Effect.Effect<HeldLease, KvError.KvError> =>
  Effect.suspend(() => {
    const renewedAt = cluster.now()
    return Effect.map(
      cluster.store.leaseGrant({ ttl: cluster.ttl }),
      ({ id, ttl }): HeldLease => ({ id, ttlMillis: Duration.toMillis(ttl), renewedAt })
    )
  })

/** Renews the lease. False if it has ended. */
export const renew = (cluster: Cluster, lease: HeldLease): Effect.Effect<boolean, KvError.KvError> =>
  Effect.suspend(() => {
    const sentAt = cluster.now()
    return cluster.store.leaseKeepAlive(lease.id).pipe(
      Effect.map(() => {
        lease.renewedAt = Math.max(lease.renewedAt, sentAt)
        return true
      }),
      whenGone(false)
    )
  })

export const revoke = (cluster: Cluster, id: bigint): Effect.Effect<void, KvError.KvError> =>
  whenGone<void>(undefined)(cluster.store.leaseRevoke(id))

/** Ends leases that were given up. Each is removed from the set once it has ended. */
export const revokeAll = (cluster: Cluster, condemned: Set<bigint>): Effect.Effect<void, KvError.KvError> =>
  Effect.suspend(() =>
    Effect.forEach(
      [...condemned],
      (id) => Effect.map(revoke(cluster, id), () => condemned.delete(id)),
      { concurrency: "unbounded", discard: true }
    )
  )

/** Whether the lease can have ended by now, as far as this process knows. */
export const mayHaveEnded = (cluster: Cluster, lease: HeldLease): boolean =>
  cluster.now() - lease.renewedAt >= lease.ttlMillis

/**
 * Whether a refresh renews the lease. `Sharding` also refreshes before it stores the reply of a persisted request, which
 * must not cost a renewal each time.
 */
export const isDue = (cluster: Cluster, lease: HeldLease): boolean =>
  cluster.now() - lease.renewedAt >= Duration.toMillis(cluster.interval) / 2

const whenGone = <A>(value: A) => (effect: Effect.Effect<A, KvError.KvError>): Effect.Effect<A, KvError.KvError> =>
  Effect.catch(effect, (error) => isGone(error) ? Effect.succeed(value) : Effect.fail(error))

export const isGone = (error: unknown): boolean => KvError.isKvError(error) && error.reason._tag === "LeaseNotFound"
