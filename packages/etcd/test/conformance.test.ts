/**
 * The published suite on a real etcd of the version under test, which all cases share.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as EtcdCluster from "@effect-kv/test-suite/EtcdCluster"
import * as KvConformance from "@effect-kv/test-suite/KvConformance"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const store = Effect.map(EtcdCluster.EtcdCluster, (cluster): typeof KvConformance.Store.Service => ({
  client: Effect.map(
    Effect.suspend(() => Layer.build(EtcdLayer.layer({ endpoints: cluster.endpoints }))),
    Context.get(Kv.Kv)
  ),
  compact: cluster.compact,
  passTime: Effect.sleep,
  limits: KvConformance.defaultLimits
}))

KvConformance.suite(`etcd ${process.env["EFFECT_KV_ETCD"] ?? ""}`, {
  layer: Layer.provide(Layer.effect(KvConformance.Store, store), EtcdCluster.layer()),
  shared: true
})
