/**
 * Whole runners of Effect Cluster on `Kv`, as layers. The transport between runners is the application's.
 */
import type * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as MessageStorage from "effect/cluster/MessageStorage"
import type { RunnerHealth } from "effect/cluster/RunnerHealth"
import type { RpcClientProtocol, Runners } from "effect/cluster/Runners"
import type { RunnerStorage } from "effect/cluster/RunnerStorage"
import type { Sharding } from "effect/cluster/Sharding"
import * as ShardingConfig from "effect/cluster/ShardingConfig"
import * as SocketRunner from "effect/cluster/SocketRunner"
import type * as Config from "effect/Config"
import * as Layer from "effect/Layer"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import type { SocketServer } from "effect/socket/SocketServer"
import * as KvRunnerHealth from "./KvRunnerHealth.ts"
import * as KvRunnerStorage from "./KvRunnerStorage.ts"
import type { ShardLocks } from "./ShardLocks.ts"

/**
 * Provides what a runner needs of a store: `RunnerStorage`, `RunnerHealth`, and the `ShardLocks` that fence writes.
 *
 * **When to use**
 *
 * With a runner that is not a socket runner, such as `HttpRunner`.
 *
 * **Gotchas**
 *
 * The `ShardingConfig` must be the one that the runner uses: the storage takes the time to live of its leases, and the
 * time limit of its operations, from it.
 *
 * @example
 * ```ts
 * import { KvCluster } from "@effect-kv/cluster"
 * import { Effect, Layer } from "effect"
 * import { RunnerStorage, ShardingConfig } from "effect/cluster"
 *
 * const program = Effect.gen(function*() {
 *   const storage = yield* RunnerStorage.RunnerStorage
 *   yield* storage.getRunners // => []
 * }).pipe(Effect.provide(KvCluster.layerStorage().pipe(Layer.provide(ShardingConfig.layerDefaults))))
 * ```
 *
 * @since 0.1.0
 */
export const layerStorage = (
  options?: KvRunnerStorage.Options
): Layer.Layer<
  RunnerStorage | RunnerHealth | ShardLocks,
  KvError.KvError,
  Kv.Kv | ShardingConfig.ShardingConfig
> => Layer.merge(KvRunnerStorage.layer(options), KvRunnerHealth.layer(options))

/**
 * Options of a runner.
 *
 * @since 0.1.0
 */
export interface Options<E2 = never, R2 = never> extends KvRunnerStorage.Options {
  /**
   * Sharding options, over those of the environment variables that `ShardingConfig.layerFromEnv` reads. The transport,
   * the storage and `Sharding` all use the result.
   */
  readonly sharding?: Partial<ShardingConfig.ShardingConfig["Service"]> | undefined
  /** How messages between runners are encoded. All runners must use the same. Default: `RpcSerialization.layerSchemaBinary`. */
  readonly serialization?: Layer.Layer<RpcSerialization.RpcSerialization> | undefined
  /**
   * Storage of persisted messages, such as `SqlMessageStorage.layer`. Default: none, so calls of persisted RPCs are a
   * defect.
   */
  readonly messageStorage?: Layer.Layer<MessageStorage.MessageStorage, E2, R2> | undefined
}

/**
 * Provides a runner: it registers itself, acquires shards, and serves the entities and singletons that are registered
 * with its `Sharding`.
 *
 * **Details**
 *
 * The first argument is the transport: with Node's sockets, the merge of `NodeClusterSocket.layerSocketServer` and
 * `NodeClusterSocket.layerClientProtocol`.
 *
 * **Gotchas**
 *
 * Two runners in one program need `Layer.fresh` around each. Without it both are the same one, because Effect builds its
 * own `SocketRunner.layer` once.
 *
 * @example
 * ```ts
 * import { KvCluster } from "@effect-kv/cluster"
 * import { MemoryNetwork } from "@effect-kv/cluster/testing"
 * import { Effect, Option } from "effect"
 * import { RunnerAddress, Sharding } from "effect/cluster"
 *
 * const program = Effect.gen(function*() {
 *   const network = yield* MemoryNetwork.make
 *   const sharding = { runnerAddress: Option.some(RunnerAddress.make("a", 1)), shardsPerGroup: 10 }
 *   yield* Effect.gen(function*() {
 *     const { isShutdown } = yield* Sharding.Sharding
 *     yield* isShutdown // => false
 *   }).pipe(Effect.provide(KvCluster.layerSocket(network.layer, { sharding })))
 * })
 * ```
 *
 * @since 0.1.0
 */
export const layerSocket = <E, R, E2 = never, R2 = never>(
  transport: Layer.Layer<SocketServer | RpcClientProtocol, E, R>,
  options?: Options<E2, R2>
): Layer.Layer<
  Sharding | Runners | ShardLocks | ShardingConfig.ShardingConfig | MessageStorage.MessageStorage,
  E | E2 | KvError.KvError | Config.ConfigError,
  | Kv.Kv
  | Exclude<R, ShardingConfig.ShardingConfig | RpcSerialization.RpcSerialization>
  | Exclude<R2, SocketServer | RpcClientProtocol>
> => {
  const shared = sharedBy(options)
  return SocketRunner.layer.pipe(
    Layer.provideMerge(layerStorage(options)),
    Layer.provide(shared.serialization),
    Layer.provideMerge(shared.config),
    Layer.provideMerge(shared.messages),
    Layer.provide(Layer.provide(transport, [shared.config, shared.serialization]))
  )
}

/**
 * Provides a client of the cluster: it calls entities, and neither registers itself nor runs any.
 *
 * **Details**
 *
 * The first argument is the transport: with Node's sockets, `NodeClusterSocket.layerClientProtocol`.
 *
 * @example
 * ```ts
 * import { KvCluster } from "@effect-kv/cluster"
 * import { MemoryNetwork } from "@effect-kv/cluster/testing"
 * import { Effect } from "effect"
 * import { ShardId, Sharding } from "effect/cluster"
 *
 * const program = Effect.gen(function*() {
 *   const network = yield* MemoryNetwork.make
 *   yield* Effect.gen(function*() {
 *     const sharding = yield* Sharding.Sharding
 *     sharding.hasShardId(ShardId.make("default", 1)) // => false
 *   }).pipe(Effect.provide(KvCluster.layerSocketClient(network.layer)))
 * })
 * ```
 *
 * @since 0.1.0
 */
export const layerSocketClient = <E, R, E2 = never, R2 = never>(
  transport: Layer.Layer<RpcClientProtocol, E, R>,
  options?: Options<E2, R2>
): Layer.Layer<
  Sharding | Runners | MessageStorage.MessageStorage,
  E | E2 | KvError.KvError | Config.ConfigError,
  | Kv.Kv
  | Exclude<R, ShardingConfig.ShardingConfig | RpcSerialization.RpcSerialization>
  | Exclude<R2, RpcClientProtocol>
> => {
  const shared = sharedBy(options)
  return SocketRunner.layerClientOnly.pipe(
    Layer.provide(layerStorage(options)),
    Layer.provide(shared.config),
    Layer.provideMerge(shared.messages),
    Layer.provide(Layer.provide(transport, [shared.config, shared.serialization]))
  )
}

/** The layers that several parts of a runner use. Each must be one value, so that it is built once. */
const sharedBy = <E2, R2>(options: Options<E2, R2> | undefined) => ({
  config: ShardingConfig.layerFromEnv(options?.sharding),
  serialization: options?.serialization ?? RpcSerialization.layerSchemaBinary(),
  messages: messagesOf(options)
})

const messagesOf = <E2, R2>(
  options: Options<E2, R2> | undefined
): Layer.Layer<MessageStorage.MessageStorage, E2, R2> => options?.messageStorage ?? MessageStorage.layerNoop
