/**
 * Entities whose writes are fenced by the lock of their shard.
 *
 * A runner that was frozen, or cut off from the store, for longer than `shardLockExpiration` has lost its shards to other
 * runners. When it resumes, it serves a few more requests before it notices. The store rejects their writes.
 */
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import * as Entity from "effect/cluster/Entity"
import * as Effect from "effect/Effect"
import { ShardLocks } from "./ShardLocks.ts"

/**
 * The fence of the lock of the current entity's shard.
 *
 * **Details**
 *
 * Its writes fail with the reason `LockLost` once the runner has lost the shard. Read it when the entity's handlers are
 * built, not in a handler: an entity that outlives the loss of its shard must not get the fence of a later lock.
 *
 * @example
 * ```ts
 * import { KvEntity } from "@effect-kv/cluster"
 * import { TestCluster } from "@effect-kv/cluster/testing"
 * import { Fence, Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect, Option } from "effect"
 * import { Entity } from "effect/cluster"
 * import { Rpc } from "effect/rpc"
 * import { TestClock } from "effect/testing"
 *
 * const Account = Entity.make("Account", [Rpc.make("Close")])
 *
 * const AccountLive = Account.toLayer(Effect.gen(function*() {
 *   const fence = yield* KvEntity.fence
 *   const kv = yield* Kv.Kv
 *   const close = Fence.provide(kv.put("account", "closed"), fence)
 *   return { Close: () => Effect.orDie(Effect.asVoid(close)) }
 * }), { disableFatalDefects: true })
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Effect.flatMap(Effect.flatMap(MemoryStore.make(), (store) => store.connect), Kv.make)
 *   const cluster = yield* TestCluster.make({ sharding: { shardsPerGroup: 10 } })
 *   const runner = yield* cluster.start("a", { kv, layer: AccountLive })
 *   yield* TestClock.adjust("1 second")
 *   yield* runner.run(Effect.flatMap(Account.client, (client) => client("1").Close()))
 *   yield* kv.get("account") // => Option.some("closed")
 * }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const fence: Effect.Effect<
  Fence.Fence,
  never,
  ShardLocks | Entity.CurrentAddress | Entity.CurrentRunnerAddress
> = Effect.gen(function*() {
  const locks = yield* ShardLocks
  const { shardId } = yield* Entity.CurrentAddress
  return yield* locks.fence(yield* Entity.CurrentRunnerAddress, shardId)
})

/**
 * The `Kv` of the environment, with the fence of the current entity's shard on each of its writes.
 *
 * **When to use**
 *
 * When the handlers of an entity are built. All state that belongs to the entity is written with it. Recipes and
 * functions of the module `Kv` take it by `Effect.provideService(Kv.Kv, kv)`.
 *
 * **Details**
 *
 * A write fails with the reason `LockLost`, and changes nothing, once the runner has lost the shard. Reads are not
 * fenced. It is a defect if this `Kv` belongs to another client than the cluster's storage: the store could not check the
 * lock together with the write.
 *
 * **Gotchas**
 *
 * A handler that dies because its write was rejected needs the option `disableFatalDefects: true` of `toLayer`. Otherwise
 * its caller may get no response, because the entity is about to end.
 *
 * @example
 * ```ts
 * import { KvEntity } from "@effect-kv/cluster"
 * import { TestCluster } from "@effect-kv/cluster/testing"
 * import { Kv } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect, Option, Schema } from "effect"
 * import { Entity } from "effect/cluster"
 * import { Rpc } from "effect/rpc"
 * import { TestClock } from "effect/testing"
 *
 * const Counter = Entity.make("Counter", [Rpc.make("Increment", { success: Schema.Int })])
 *
 * const CounterLive = Counter.toLayer(Effect.gen(function*() {
 *   const kv = yield* KvEntity.kv
 *   const { entityId } = yield* Entity.CurrentAddress
 *   const increment = kv.modify(
 *     `counters/${entityId}`,
 *     (count) => `${Number(Option.getOrElse(count, () => "0")) + 1}`
 *   )
 *   return { Increment: () => Effect.orDie(Effect.map(increment, Number)) }
 * }), { disableFatalDefects: true })
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Effect.flatMap(Effect.flatMap(MemoryStore.make(), (store) => store.connect), Kv.make)
 *   const cluster = yield* TestCluster.make({ sharding: { shardsPerGroup: 10 } })
 *   const runner = yield* cluster.start("a", { kv, layer: CounterLive })
 *   yield* TestClock.adjust("1 second")
 *   yield* runner.run(Effect.flatMap(Counter.client, (client) => client("visits").Increment())) // => 1
 * }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const kv: Effect.Effect<
  Kv.Kv,
  never,
  Kv.Kv | ShardLocks | Entity.CurrentAddress | Entity.CurrentRunnerAddress
> = Effect.gen(function*() {
  return yield* Effect.orDie(Fence.attach(yield* Kv.Kv, yield* fence))
})
