/**
 * A cluster in virtual time, with faults between each runner and the store, and what the store has seen.
 */
import { KvCluster, KvSingleton } from "@effect-kv/cluster"
import { TestCluster } from "@effect-kv/cluster/testing"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as Watch from "@effect-kv/core/Watch"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { type Changes, ShardChecker } from "@effect-kv/test-suite/verification"
import { assert } from "@effect/vitest"
import { ShardId } from "effect/cluster"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { fenced, State, unfenced } from "./counters.ts"

export const shards = 30

/** Short intervals, as on a cluster that fails over fast. */
const sharding = {
  shardsPerGroup: shards,
  shardLockExpiration: "6 seconds",
  shardLockRefreshInterval: "2 seconds",
  refreshAssignmentsInterval: "250 millis",
  entityMessagePollInterval: "1 second"
} as const

/** A singleton that writes which runner it runs on, again and again, and once more when it is stopped. */
const ticker = (host: string) =>
  KvSingleton.make(
    "ticker",
    Effect.forever(Effect.ensuring(Effect.sleep("500 millis"), Effect.ignore(Kv.put("ticker", host))))
  )

const changeOf = (event: Watch.Event): Changes.Change =>
  event._tag === "Put"
    ? {
      type: "put",
      key: event.key,
      valueBytes: event.entry.value,
      modRevision: event.revision,
      createRevision: event.entry.createRevision,
      version: BigInt(event.entry.version),
      lease: Option.getOrElse(event.entry.lease, () => 0n)
    }
    : {
      type: "delete",
      key: event.key,
      valueBytes: new Uint8Array(0),
      modRevision: event.revision,
      createRevision: 0n,
      version: 0n,
      lease: 0n
    }

/** What the store's history says of its locks, and of the writes of these counters. */
export const violationsOf = (changes: ReadonlyArray<Changes.Change>, counters: typeof fenced | typeof unfenced) =>
  ShardChecker.check(changes, {
    shardOf: (key) => key.startsWith("cluster/locks/") ? key.slice("cluster/locks/".length) : undefined,
    writtenUnder: ({ key, type, valueBytes }) => {
      if (type === "delete" || !key.startsWith(counters.keyOf(""))) return undefined
      const { shard, token } = Schema.decodeSync(State)(new TextDecoder().decode(valueBytes))
      return { shard, token: BigInt(token) }
    }
  })

/** Makes the cluster. */
export const make = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const kv = yield* Effect.flatMap(store.connect, Kv.make)
  const changes: Array<Changes.Change> = []
  yield* kv.watch(KeyRange.all).pipe(
    Stream.runForEach((event) =>
      Effect.sync(() => {
        changes.push(changeOf(event))
      })
    ),
    Effect.forkScoped({ startImmediately: true })
  )
  const cluster = yield* TestCluster.make({ sharding })
  const runners = new Set<TestCluster.TestRunner>()

  const start = Effect.fnUntraced(function*(
    host: string,
    mutate: (backend: KvBackend) => KvBackend = identity,
    sharding?: TestCluster.StartOptions<never, never>["sharding"]
  ) {
    const faults = yield* Effect.flatMap(Effect.map(store.connect, mutate), KvFaults.make)
    const runner = yield* cluster.start(host, {
      kv: faults.kv,
      sharding,
      layer: Layer.mergeAll(fenced.layer, unfenced.layer, ticker(host))
    })
    runners.add(runner)
    return { ...runner, faults, leave: Effect.andThen(Effect.sync(() => runners.delete(runner)), runner.stop) }
  })

  /** How many runners say that they own the shard. */
  const ownersOf = (shard: number) =>
    [...runners].filter(({ sharding }) => sharding.hasShardId(ShardId.make("default", shard))).length

  return {
    store,
    kv,
    /** A client of the cluster: runs an effect that calls entities. */
    client: Effect.map(
      Layer.build(
        Layer.provide(KvCluster.layerSocketClient(cluster.network.layer, { sharding }), Layer.succeed(Kv.Kv, kv))
      ),
      (context) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideContext(effect, context)
    ),
    /** Every change of the store so far. */
    changes,
    start,
    /** Does not look at what the runner says from now on. */
    ignore: (runner: { readonly address: TestCluster.TestRunner["address"] }) =>
      Effect.sync(() => {
        for (const each of runners) if (each.address === runner.address) runners.delete(each)
      }),
    /** Lets time pass. No shard ever has two owners. */
    pass: Effect.fnUntraced(function*(millis: number) {
      for (let passed = 0; passed < millis; passed += 250) {
        yield* TestClock.adjust(250)
        for (let shard = 1; shard <= shards; shard++) assert.isAtMost(ownersOf(shard), 1, `owners of shard ${shard}`)
      }
    })
  }
})
