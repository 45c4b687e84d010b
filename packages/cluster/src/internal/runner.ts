/**
 * A runner of this process: its two leases, and the shard locks that it holds with one of them.
 *
 * The presence lease has the registration, the shard lease the locks. One lease for both would be wrong: ending all locks
 * after an outage would also unregister the runner, and its peers would rebalance twice.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { Cluster } from "./cluster.ts"
import * as heldLease from "./heldLease.ts"
import type { HeldLease } from "./heldLease.ts"

export class Runner {
  /** `HOST:PORT`. */
  readonly address: string
  presence: HeldLease | undefined
  shards: HeldLease | undefined
  /** Presence leases that were given up, and may not have ended yet. Nothing renews them. */
  readonly condemnedPresences = new Set<bigint>()
  /** Shard leases that were given up, and may not have ended yet. Nothing under them counts as held. */
  readonly condemned = new Set<bigint>()
  /** The create revision of each lock that `acquire` has reported, by its shard. All are under `shards`. */
  readonly locks = new Map<string, bigint>()
  /**
   * Locks under `shards` that no caller knows of: their `acquire` was interrupted, but was applied. They are deleted at a
   * refresh, by their create revision. Until then `acquire` must not report them.
   */
  readonly orphans = new Map<string, bigint>()
  /** How many calls of `acquire` are in flight. */
  acquiring = 0
  /** The machine id that it has, or had last. */
  machineId: number | undefined
  /** The revision at which it was registered; 0 if it is not. */
  registeredAt = 0n
  /** Whether another process was last seen to have its address. */
  isTaken = false
  /** The presence lease under which the leases of an earlier process at this address were ended. */
  succeededWith: HeldLease | undefined
  readonly #granting = Semaphore.makeUnsafe(1)

  constructor(address: string) {
    this.address = address
  }

  /** The presence lease; a new one if there is none. */
  presenceLease(cluster: Cluster): Effect.Effect<HeldLease, KvError.KvError> {
    return this.#once(() => this.presence, (lease) => this.presence = lease, cluster)
  }

  /** The shard lease; a new one if there is none. */
  shardLease(cluster: Cluster): Effect.Effect<HeldLease, KvError.KvError> {
    return this.#once(() => this.shards, (lease) => this.shards = lease, cluster)
  }

  #once(
    current: () => HeldLease | undefined,
    set: (lease: HeldLease) => void,
    cluster: Cluster
  ): Effect.Effect<HeldLease, KvError.KvError> {
    return this.#granting.withPermits(1)(Effect.suspend(() => {
      const lease = current()
      return lease !== undefined
        ? Effect.succeed(lease)
        : Effect.tap(heldLease.grant(cluster), (lease) => Effect.sync(() => set(lease)))
    }))
  }

  /** Forgets a presence lease that has ended or is about to. A later one stays. */
  forgetPresence(lease: HeldLease): void {
    if (this.presence !== lease) return
    this.presence = undefined
    this.registeredAt = 0n
  }

  /** Gives up a presence lease, whether it has ended or not. A later one stays. */
  condemnPresence(lease: HeldLease): void {
    if (this.presence !== lease) return
    this.condemnedPresences.add(lease.id)
    this.forgetPresence(lease)
  }

  /** Gives up a shard lease, with all its locks, whether it has ended or not. A later one stays. */
  condemnShards(lease: HeldLease): void {
    if (this.shards !== lease) return
    this.condemned.add(lease.id)
    this.forgetShards(lease)
  }

  /** Forgets a shard lease that has ended, with all its locks. A later one stays. */
  forgetShards(lease: HeldLease): void {
    if (this.shards !== lease) return
    this.shards = undefined
    this.locks.clear()
    this.orphans.clear()
  }
}
