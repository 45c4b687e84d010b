/**
 * Shard locks that the runners of this process hold, as fences: conditions on writes, so that the store rejects those of
 * a runner that has lost the shard.
 *
 * `KvRunnerStorage.layer` provides the service. Most programs use `KvEntity` and `KvSingleton`, which apply the fences.
 */
import type * as Fence from "@effect-kv/core/Fence"
import type { RunnerAddress } from "effect/cluster/RunnerAddress"
import type { ShardId } from "effect/cluster/ShardId"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/**
 * The service of the shard locks that this process holds.
 *
 * @since 0.1.0
 */
export class ShardLocks extends Context.Service<ShardLocks, {
  /**
   * The fence of the lock that the runner holds now: conditions on the create revision and the lease of the lock's key.
   *
   * **Details**
   *
   * A write under it fails with the reason `LockLost` and changes nothing, once the lock was lost or released, even if
   * the runner acquires the shard again later. If the runner does not hold the lock, every write under the fence fails.
   */
  readonly fence: (runner: RunnerAddress, shardId: ShardId) => Effect.Effect<Fence.Fence>
}>()("@effect-kv/cluster/ShardLocks") {}
