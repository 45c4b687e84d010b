/**
 * Runners of an Effect Cluster: short lives in which they register, acquire shards, write under their locks, refresh and
 * release. Some crash, and the next at the same address takes over.
 */
import { KvRunnerStorage } from "@effect-kv/cluster"
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { Runner, RunnerAddress, ShardId, ShardingConfig } from "effect/cluster"
import * as Effect from "effect/Effect"
import type { RecordedClient, Step } from "./Worker.ts"
import { unique } from "./Worker.ts"

/** The prefix of the cluster's keys. */
export const clusterOf = (prefix: string): string => `${prefix}cluster`

/** The shards that all runners want. */
const shards = Array.from({ length: 6 }, (_, index) => ShardId.make("default", index + 1))

const config: ShardingConfig.ShardingConfig["Service"] = {
  ...ShardingConfig.defaults,
  shardLockExpiration: "6 seconds",
  shardLockRefreshInterval: "2 seconds"
}

/** The key that the owner of a shard writes. Its value is the lock's create revision and a unique part. */
export const usedOf = (prefix: string, shard: string): string => `${usedBy(prefix)}${shard}`

export const usedBy = (prefix: string): string => `${prefix}shard-used/`

/** The create revision in that value. */
export const tokenOf = (value: string): bigint => BigInt(value.split(" ")[0]!)

export interface Life {
  /** How often it acquires and refreshes. */
  readonly rounds: number
  /** The time between the two, in milliseconds. */
  readonly rest: number
  readonly wanted: ReadonlyArray<ShardId.ShardId>
  /** Whether it crashes. */
  readonly crashes: boolean
}

/** The life of a runner. */
export const live: Step = (client, random) =>
  living(client, {
    rounds: random.int(1, 3),
    rest: random.chance(0.1) ? random.int(1000, 2500) : random.int(0, 400),
    wanted: shards.filter(() => random.chance(0.7)),
    crashes: random.chance(0.3)
  })

export const living = (client: RecordedClient, { crashes, rest, rounds, wanted }: Life) =>
  Effect.gen(function*() {
    const address = RunnerAddress.make(client.name, 1)
    const { locks, storage } = yield* KvRunnerStorage.make({ prefix: clusterOf(client.prefix) })
    yield* storage.register(Runner.make({ address, groups: ["default"], weight: 1 }), true)
    for (let round = 0; round < rounds; round++) {
      const acquired = yield* storage.acquire(address, wanted)
      const fences = yield* Effect.forEach(acquired, (shard) =>
        Effect.map(locks.fence(address, shard), (fence) => [shard, fence] as const))
      yield* Effect.sleep(rest)
      // What it writes here, it may have lost.
      yield* Effect.forEach(fences, ([shard, fence]) =>
        Fence.provide(use(client, shard, fence), fence))
      const still = yield* storage.refresh(address, acquired)
      yield* Effect.forEach(still.slice(round + 1), (shard) => storage.release(address, shard))
      yield* storage.getRunners
    }
    if (crashes) return
    yield* storage.unregister(address)
    yield* storage.releaseAll(address)
  }).pipe(
    Effect.scoped,
    Effect.provideService(Kv.Kv, client.kv),
    Effect.provideService(ShardingConfig.ShardingConfig, config),
    Effect.catchTag(
      "PersistenceError",
      ({ cause }) => KvError.isKvError(cause) ? Effect.fail(cause) : Effect.die(cause)
    )
  )

const use = Effect.fnUntraced(function*(client: RecordedClient, shard: ShardId.ShardId, fence: Fence.Fence) {
  const [condition] = fence.conditions
  const token = condition?.target === "CreateRevision" ? condition.value : 0n
  yield* client.counters.save(usedOf(client.prefix, shard.toString()), `${token} ${yield* unique(client)}`)
})
