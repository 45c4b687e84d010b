/**
 * Runner storage of Effect Cluster on `Kv`: registrations, machine ids and shard locks, as keys on leases.
 *
 * A runner has two leases, renewed by each refresh of its shard locks and by nothing else. If it crashes or hangs, its
 * registration and its locks are gone after `shardLockExpiration`, and its peers see that at their next poll. Reading the
 * registered runners takes no request: a view follows them.
 */
import type * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as RunnerStorage from "effect/cluster/RunnerStorage"
import * as ShardingConfig from "effect/cluster/ShardingConfig"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as clusters from "./internal/cluster.ts"
import * as directory from "./internal/directory.ts"
import * as registration from "./internal/registration.ts"
import { Runner } from "./internal/runner.ts"
import * as shardFence from "./internal/shardFence.ts"
import * as shards from "./internal/shards.ts"
import { ShardLocks } from "./ShardLocks.ts"

/**
 * Options of the storage.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * What the keys of the cluster begin with: `PREFIX/runners/...`, `PREFIX/locks/...`. Clusters with different prefixes
   * know nothing of each other. Default: `cluster`.
   */
  readonly prefix?: string | undefined
}

/**
 * Makes the storage, and the service that fences writes by its shard locks.
 *
 * **Details**
 *
 * `shardLockExpiration` is the time to live of both leases, in whole seconds, rounded up; etcd grants at least 2 seconds.
 * Every operation ends within `shardLockRefreshInterval`, or a third of the expiration if that is shorter.
 *
 * Fails with `InvalidRequest` if the prefix or one of these times is invalid. The store is not contacted.
 *
 * @example
 * ```ts
 * import { KvRunnerStorage } from "@effect-kv/cluster"
 * import { Effect } from "effect"
 * import { RunnerAddress, ShardId, ShardingConfig } from "effect/cluster"
 *
 * const program = Effect.gen(function*() {
 *   const { locks, storage } = yield* KvRunnerStorage.make()
 *   const runner = RunnerAddress.make("10.0.0.1", 34431)
 *   const shard = ShardId.make("default", 1)
 *   const acquired = yield* storage.acquire(runner, [shard])
 *   acquired.length // => 1
 *   const fence = yield* locks.fence(runner, shard)
 *   fence.isHeldUnsafe() // => true
 *   yield* storage.releaseAll(runner)
 *   const afterwards = fence.isHeldUnsafe() // => false
 * }).pipe(Effect.scoped, Effect.provide(ShardingConfig.layerDefaults))
 * ```
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<
  { readonly storage: RunnerStorage.RunnerStorage["Service"]; readonly locks: ShardLocks["Service"] },
  KvError.KvError,
  Kv.Kv | ShardingConfig.ShardingConfig | Scope.Scope
> {
  const cluster = yield* clusters.make(yield* Kv.Kv, yield* ShardingConfig.ShardingConfig, options?.prefix)
  // One process is one runner. Tests, and tools that act for several, use more.
  const runners = new Map<string, Runner>()
  const runnerAt = (address: string): Runner => {
    const runner = runners.get(address) ?? new Runner(address)
    runners.set(address, runner)
    return runner
  }
  const registrations = yield* directory.make(cluster, runners)
  const reader = registration.reader(cluster)
  /** What an operation means is settled when it begins: its attempts repeat the effect that `begin` returns. */
  const operation = <A, E, R>(name: string, begin: () => Effect.Effect<A, E, R>) =>
    Effect.suspend(() => clusters.operation(cluster, name, begin()))

  const storage = RunnerStorage.makeEncoded({
    getRunners: operation("getRunners", () =>
      registrations.pipe(
        Effect.tapError(() => reader.failed),
        Effect.flatMap(reader.read),
        Effect.map((all) => all.map(({ healthy, runner }) => [runner, healthy] as const))
      )),
    register: (address, runner, healthy) =>
      operation("register", () => registration.register(cluster, runnerAt(address), runner, healthy)),
    unregister: (address) => operation("unregister", () => registration.unregister(cluster, runnerAt(address))),
    setRunnerHealth: (address, healthy) =>
      operation("setRunnerHealth", () => registration.setHealth(cluster, address, healthy)),
    acquire: (address, shardIds) => operation("acquire", () => shards.acquire(cluster, runnerAt(address), shardIds)),
    refresh: (address, shardIds) => operation("refresh", () => shards.refresh(cluster, runnerAt(address), shardIds)),
    release: (address, shardId) => operation("release", () => shards.release(cluster, runnerAt(address), shardId)),
    releaseAll: (address) => operation("releaseAll", () => shards.releaseAll(cluster, runnerAt(address)))
  })

  const locks = ShardLocks.of({
    fence: ({ host, port }, shardId) =>
      Effect.sync((): Fence.Fence => shardFence.make(cluster, runnerAt(`${host}:${port}`), shardId.toString()))
  })

  return { storage, locks }
})

/**
 * Provides the `RunnerStorage` of Effect Cluster, and the `ShardLocks` that fence the writes of entities and singletons.
 *
 * **When to use**
 *
 * To assemble a runner by hand, with any transport. `KvCluster.layerSocket` is a whole runner.
 *
 * @example
 * ```ts
 * import { KvRunnerStorage } from "@effect-kv/cluster"
 * import { Effect, Layer } from "effect"
 * import { RunnerStorage, ShardingConfig } from "effect/cluster"
 *
 * const layer = KvRunnerStorage.layer({ prefix: "orders" }).pipe(Layer.provide(ShardingConfig.layerDefaults))
 *
 * const program = Effect.gen(function*() {
 *   const storage = yield* RunnerStorage.RunnerStorage
 *   yield* storage.getRunners // => []
 * }).pipe(Effect.provide(layer))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (
  options?: Options
): Layer.Layer<
  RunnerStorage.RunnerStorage | ShardLocks,
  KvError.KvError,
  Kv.Kv | ShardingConfig.ShardingConfig
> =>
  Layer.effectContext(
    Effect.map(make(options), ({ locks, storage }) =>
      Context.make(ShardLocks, locks).pipe(Context.add(RunnerStorage.RunnerStorage, storage)))
  )
