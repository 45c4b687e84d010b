/**
 * A differential test of memory and etcd: random programs must have the same results on both.
 *
 * `EFFECT_KV_DIFFERENTIAL_RUNS` sets the number of programs.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdClient from "@effect-kv/etcd/EtcdClient"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { Differential } from "@effect-kv/test-suite/conformance"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const memory = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const kv = yield* Effect.flatMap(store.connect, Kv.make)
  return { kv, compact: store.compact }
})

const etcd = Effect.gen(function*() {
  const cluster = yield* EtcdCluster.make()
  const context = yield* Layer.build(EtcdLayer.layer({ endpoints: cluster.endpoints }))
  const client = yield* Context.get(context, EtcdClient.EtcdClient).etcd3
  return {
    kv: Context.get(context, Kv.Kv),
    compact: (revision: bigint) => Effect.tryPromise(() => client.kv.compact({ revision: `${revision}` }))
  }
})

const runs = Number(process.env["EFFECT_KV_DIFFERENTIAL_RUNS"] ?? 300)

describe(`memory and etcd ${process.env["EFFECT_KV_ETCD"] ?? ""}`, () => {
  it.live(`${runs} random programs have the same results on memory and etcd`, () =>
    Effect.gen(function*() {
      yield* Differential.check({ memory: yield* memory, etcd: yield* etcd }, { runs })
    }), 60_000 + 1000 * runs)
})
