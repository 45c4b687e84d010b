/**
 * A real etcd of the version under test as the store of the conformance suite.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { KvConformance } from "@effect-kv/test-suite/conformance"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const store = (options: Omit<EtcdLayer.Options, "endpoints">) =>
  Effect.map(EtcdCluster.EtcdCluster, (cluster): typeof KvConformance.Store.Service => ({
    client: Effect.map(
      Effect.suspend(() => Layer.build(EtcdLayer.layer({ endpoints: cluster.endpoints, ...options }))),
      Context.get(Kv.Kv)
    ),
    compact: cluster.compact,
    passTime: Effect.sleep,
    limits: KvConformance.defaultLimits,
    unreachable: {
      client: Effect.map(
        Effect.suspend(() => Layer.build(EtcdLayer.layer({ ...options, endpoints: ["http://127.0.0.1:1"] }))),
        Context.get(Kv.Kv)
      ),
      cause: /ECONNREFUSED 127\.0\.0\.1:1/
    }
  }))

/** Runs the suite on one server for all cases. */
export const suite = (name: string, options: Omit<EtcdLayer.Options, "endpoints">): void =>
  KvConformance.suite(name, {
    layer: Layer.provide(Layer.effect(KvConformance.Store, store(options)), EtcdCluster.layer()),
    shared: true
  })
