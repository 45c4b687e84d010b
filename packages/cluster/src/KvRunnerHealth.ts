/**
 * Runner health of Effect Cluster on `Kv`: a runner is alive as long as its registration exists.
 *
 * The registration is on a lease that the runner renews with each refresh of its shard locks, so no ping is needed.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as RunnerHealth from "effect/cluster/RunnerHealth"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as keys from "./internal/keys.ts"
import type { Options } from "./KvRunnerStorage.ts"

/**
 * Makes the health check.
 *
 * **Details**
 *
 * A runner counts as alive if the store cannot be read: a store that is away must not mark every runner as unhealthy.
 * Fails with `InvalidRequest` if the prefix is invalid.
 *
 * @example
 * ```ts
 * import { KvRunnerHealth } from "@effect-kv/cluster"
 * import { Effect } from "effect"
 * import { RunnerAddress } from "effect/cluster"
 *
 * const program = Effect.gen(function*() {
 *   const health = yield* KvRunnerHealth.make()
 *   yield* health.isAlive(RunnerAddress.make("10.0.0.1", 34431)) // => false
 * })
 * ```
 *
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  options?: Options
): Effect.fn.Return<RunnerHealth.RunnerHealth["Service"], KvError.KvError, Kv.Kv> {
  const kv = yield* Kv.Kv
  const { runner } = yield* keys.make(options?.prefix)
  return RunnerHealth.RunnerHealth.of({
    isAlive: ({ host, port }) =>
      kv.getEntry(runner(`${host}:${port}`)).pipe(
        Effect.map(Option.isSome),
        Effect.orElseSucceed(() => true),
        Effect.withTracerEnabled(false)
      )
  })
})

/**
 * Provides the `RunnerHealth` of Effect Cluster.
 *
 * @example
 * ```ts
 * import { KvRunnerHealth } from "@effect-kv/cluster"
 * import { Effect } from "effect"
 * import { RunnerAddress, RunnerHealth } from "effect/cluster"
 *
 * const program = Effect.gen(function*() {
 *   const health = yield* RunnerHealth.RunnerHealth
 *   yield* health.isAlive(RunnerAddress.make("10.0.0.1", 34431)) // => false
 * }).pipe(Effect.provide(KvRunnerHealth.layer()))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<RunnerHealth.RunnerHealth, KvError.KvError, Kv.Kv> =>
  Layer.effect(RunnerHealth.RunnerHealth, make(options))
