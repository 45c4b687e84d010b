/**
 * The fence of a shard's lock.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Fence from "@effect-kv/core/Fence"
import * as KvError from "@effect-kv/core/KvError"
import * as LockError from "@effect-kv/core/LockError"
import * as Option from "effect/Option"
import type { Cluster } from "./cluster.ts"
import * as heldLease from "./heldLease.ts"
import type { Runner } from "./runner.ts"

/** The fence of the lock that the runner holds now. */
export const make = (cluster: Cluster, runner: Runner, shardId: string): Fence.Fence => {
  const lock = cluster.keys.lock(shardId)
  const lease = runner.shards
  const token = runner.locks.get(shardId) ?? 0n
  const lost = (reason: string) => KvError.fail(new LockError.LockLost({ lock, token, reason }))
  return Fence.make(cluster.kv, {
    // The lease as well: a store restored from a backup may give another runner's lock the same create revision.
    conditions: [
      Compare.createRevision(lock, "=", token),
      Compare.lease(lock, "=", Option.fromUndefinedOr(lease?.id))
    ],
    // A runner that was frozen may notice the loss here, before the store reports it.
    isHeldUnsafe: () =>
      token !== 0n && lease !== undefined && runner.shards === lease && runner.locks.get(shardId) === token &&
      !heldLease.mayHaveEnded(cluster, lease),
    notHeld: lost(
      token === 0n ? "this runner did not hold it when its fence was made" : "this runner does not hold it any more"
    ),
    rejected: lost("a fenced write was rejected because the lock is not held any more")
  })
}
