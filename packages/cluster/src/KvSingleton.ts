/**
 * Singletons of a cluster whose writes are fenced by the lock of their shard.
 */
import * as Fence from "@effect-kv/core/Fence"
import { make as makeEntityId } from "effect/cluster/EntityId"
import { Sharding } from "effect/cluster/Sharding"
import { ShardingConfig } from "effect/cluster/ShardingConfig"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { ShardLocks } from "./ShardLocks.ts"

/**
 * A layer that registers an effect which runs on one runner of the cluster, as `Singleton.make` of Effect does. The
 * store rejects its writes once the runner has lost the shard of the singleton.
 *
 * **Details**
 *
 * The fence applies to the writes of the effect, and of all fibers it starts, with every `Kv` of the client that the
 * cluster's storage uses. Without a runner address (client only) the effect never runs.
 *
 * @example
 * ```ts
 * import { KvSingleton } from "@effect-kv/cluster"
 * import { TestCluster } from "@effect-kv/cluster/testing"
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect, Option } from "effect"
 * import { TestClock } from "effect/testing"
 *
 * const leader = (host: string) => KvSingleton.make("leader", Effect.asVoid(Kv.put("leader", host)))
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Effect.flatMap(Effect.flatMap(MemoryStore.make(), (store) => store.connect), Kv.make)
 *   const cluster = yield* TestCluster.make({ sharding: { shardsPerGroup: 10 } })
 *   yield* cluster.start("a", { kv, layer: leader("a") })
 *   yield* TestClock.adjust("1 second")
 *   yield* kv.get("leader") // => Option.some("a")
 * }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const make = <E, R>(
  name: string,
  run: Effect.Effect<void, E, R>,
  options?: {
    /** The shard group of the singleton. Default: `default`. */
    readonly shardGroup?: string | undefined
  }
): Layer.Layer<never, never, Sharding | ShardingConfig | ShardLocks | Exclude<R, Scope.Scope>> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const sharding = yield* Sharding
    const locks = yield* ShardLocks
    const { runnerAddress } = yield* ShardingConfig
    const shardId = sharding.getShardId(makeEntityId(name), options?.shardGroup ?? "default")
    const fenced = Option.match(runnerAddress, {
      onNone: () => run,
      // Each time it starts, it has another lock.
      onSome: (runner) => Effect.flatMap(locks.fence(runner, shardId), (fence) => Fence.provide(run, fence))
    })
    yield* sharding.registerSingleton(name, fenced, options)
  }))
