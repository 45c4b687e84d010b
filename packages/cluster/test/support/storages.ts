/**
 * Storages for tests: each is that of one process.
 */
import { KvRunnerStorage } from "@effect-kv/cluster"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as Lease from "@effect-kv/core/Lease"
import { Runner, RunnerAddress, ShardId, ShardingConfig } from "effect/cluster"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

export const config: ShardingConfig.ShardingConfig["Service"] = {
  ...ShardingConfig.defaults,
  shardLockExpiration: "6 seconds",
  shardLockRefreshInterval: "2 seconds",
  refreshAssignmentsInterval: "250 millis"
}

/** For a real store on a busy machine. */
export const patient: typeof config = {
  ...config,
  shardLockExpiration: "90 seconds",
  shardLockRefreshInterval: "30 seconds"
}

/** The storage of a new process. */
export const processWith = (config: ShardingConfig.ShardingConfig["Service"]) => (kv: Kv.Kv, prefix: string) =>
  Effect.map(
    KvRunnerStorage.make({ prefix }).pipe(
      Effect.provideService(Kv.Kv, kv),
      Effect.provideService(ShardingConfig.ShardingConfig, config)
    ),
    ({ locks, storage }) => ({ ...storage, locks })
  )

export const address = (host: string) => RunnerAddress.make(host, 1)

export const runner = (host: string) => Runner.make({ address: address(host), groups: ["default"], weight: 1 })

export const shard = (id: number) => ShardId.make("default", id)

export const shardsUpTo = (count: number) => Array.from({ length: count }, (_, index) => shard(index + 1))

export const ids = <E, R>(shards: Effect.Effect<ReadonlyArray<ShardId.ShardId>, E, R>) =>
  Effect.map(shards, (all) => all.map(({ id }) => id).toSorted((a, b) => a - b))

/** `HOST healthy` or `HOST unhealthy` of each registered runner. */
export const registered = <E, R>(
  runners: Effect.Effect<ReadonlyArray<readonly [Runner.Runner, boolean]>, E, R>
) =>
  Effect.map(
    runners,
    (all) => all.map(([{ address }, healthy]) => `${address.host} ${healthy ? "healthy" : "unhealthy"}`).toSorted()
  )

/** Ends the leases of all keys that begin with the prefix, as if they had expired. */
export const endLeases = (kv: Kv.Kv, prefix: string) =>
  Effect.gen(function*() {
    const { entries } = yield* kv.range(KeyRange.prefix(prefix))
    const leases = new Set(entries.flatMap(({ lease }) => Option.toArray(lease)))
    yield* Effect.forEach(leases, (id) => Effect.provideService(Lease.revoke(id), Kv.Kv, kv))
  })

export const keys = (kv: Kv.Kv, prefix: string) =>
  Effect.map(kv.range(KeyRange.prefix(prefix)), ({ entries }) => entries.map(({ key }) => key.slice(prefix.length)))

export const process = processWith(config)
