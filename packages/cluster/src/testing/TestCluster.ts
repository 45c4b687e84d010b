/**
 * A cluster of runners in one test, in virtual time: join, crash, freeze and graceful end, in milliseconds.
 *
 * Each runner is what `KvCluster.layerSocket` provides: Effect's `Sharding`, with a transport in memory, on the `Kv` that
 * the test gives it. Under the `TestClock` a test of a failover takes no real time, and the same test does the same each
 * time. With `KvFaults` of `@effect-kv/test-suite` between a runner and the store, the store can fail as well.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as Clock from "effect/Clock"
import { RunnerAddress } from "effect/cluster/RunnerAddress"
import { make as makeShardId } from "effect/cluster/ShardId"
import { Sharding } from "effect/cluster/Sharding"
import { ShardingConfig } from "effect/cluster/ShardingConfig"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { SocketServerError } from "effect/socket/SocketServer"
import * as KvCluster from "../KvCluster.ts"
import type { ShardLocks } from "../ShardLocks.ts"
import * as testProcess from "./internal/testProcess.ts"
import * as MemoryNetwork from "./MemoryNetwork.ts"

/**
 * What a runner offers to its entities, besides the `Kv`.
 *
 * @since 0.1.0
 */
export type RunnerServices = Sharding | ShardingConfig | ShardLocks | Kv.Kv

/**
 * A runner of a test.
 *
 * @since 0.1.0
 */
export interface TestRunner {
  readonly address: RunnerAddress
  readonly sharding: Sharding["Service"]
  /** Runs an effect in the runner, such as a call of an entity: with its `Sharding`, its `Kv` and its clock. */
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, RunnerServices>>
  /** How many shards it has acquired, as far as it knows. */
  readonly shards: Effect.Effect<number>
  /** Stops its clock, and holds everything it sends and receives, as SIGSTOP does. */
  readonly freeze: Effect.Effect<void>
  /** Ends a freeze: what was due meanwhile happens now. */
  readonly thaw: Effect.Effect<void>
  /** Crashes it: nothing it does afterwards reaches the store or another runner. */
  readonly kill: Effect.Effect<void>
  /** Ends it gracefully: it hands its shards over. */
  readonly stop: Effect.Effect<void>
}

/**
 * Options of a runner.
 *
 * @since 0.1.0
 */
export interface StartOptions<E, R> {
  /** The store. For faults of its own, the `kv` of `KvFaults`. */
  readonly kv: Kv.Kv
  /** Entities and singletons. Default: none. */
  readonly layer?: Layer.Layer<never, E, R> | undefined
  /** Sharding options, over those of the cluster. */
  readonly sharding?: Partial<ShardingConfig["Service"]> | undefined
}

/**
 * A cluster of a test.
 *
 * @since 0.1.0
 */
export interface TestCluster {
  readonly network: MemoryNetwork.MemoryNetwork
  /** Starts a runner with this host name. It ends with the scope, gracefully unless it was killed. */
  readonly start: <E = never, R = never>(
    host: string,
    options: StartOptions<E, R>
  ) => Effect.Effect<
    TestRunner,
    E | KvError.KvError | Config.ConfigError | SocketServerError,
    Scope.Scope | Exclude<R, RunnerServices>
  >
}

/**
 * Makes a cluster without runners. The options are those of every runner.
 *
 * @example
 * ```ts
 * import { TestCluster } from "@effect-kv/cluster/testing"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 * import { TestClock } from "effect/testing"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const cluster = yield* TestCluster.make({ sharding: { shardsPerGroup: 10 } })
 *   const runner = yield* cluster.start("a", { kv: yield* Effect.flatMap(store.connect, Kv.make) })
 *   yield* TestClock.adjust("1 second")
 *   yield* runner.shards // => 10
 * }).pipe(Effect.scoped, Effect.provide(TestClock.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const make = (
  options?: Pick<KvCluster.Options, "prefix" | "sharding">
): Effect.Effect<TestCluster> =>
  Effect.map(MemoryNetwork.make, (network): TestCluster => ({
    network,
    start: <E, R>(host: string, { kv, layer, sharding }: StartOptions<E, R>) =>
      Effect.gen(function*() {
        const outer = yield* Effect.scope
        const address = RunnerAddress.make({ host, port: 1 })
        const scope = yield* Scope.make()
        const process = yield* Scope.provide(testProcess.make(kv), scope)
        const config = { ...options?.sharding, ...sharding, runnerAddress: Option.some(address) }
        const end = process.run(Scope.close(scope, Exit.void))
        yield* Scope.addFinalizer(outer, Effect.andThen(process.thaw, end))
        const runner: Layer.Layer<
          RunnerServices,
          KvError.KvError | Config.ConfigError | SocketServerError
        > = KvCluster.layerSocket(network.layer, { prefix: options?.prefix, sharding: config }).pipe(
          Layer.provideMerge(Layer.succeed(Kv.Kv, process.kv))
        )
        const served: Layer.Layer<never, E, R> = layer ?? Layer.empty
        const context: Context.Context<RunnerServices> = yield* process.run(
          Layer.buildWithScope(Layer.provideMerge(served, runner), scope)
        )
        const services = Context.add(context, Clock.Clock, process.clock)
        const own = Context.get(context, Sharding)
        const { availableShardGroups, shardsPerGroup } = Context.get(context, ShardingConfig)
        return {
          address,
          sharding: own,
          run: (effect) => Effect.provideContext(effect, services),
          shards: Effect.sync(() =>
            availableShardGroups.reduce(
              (sum, group) =>
                sum + Array.from({ length: shardsPerGroup }, (_, index) => makeShardId(group, index + 1))
                  .filter(own.hasShardId).length,
              0
            )
          ),
          freeze: Effect.andThen(network.hold(address), process.freeze),
          thaw: Effect.andThen(process.thaw, network.release(address)),
          kill: Effect.andThen(network.hold(address), Effect.andThen(process.kill, end)),
          stop: end
        }
      })
  }))
