/**
 * The bridge on a real etcd.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { Store, suite } from "./support/cases.ts"

const store = Effect.map(EtcdCluster.EtcdCluster, (cluster) =>
  Store.of({
    client: Effect.map(
      Effect.suspend(() => Layer.build(EtcdLayer.layer({ endpoints: cluster.endpoints }))),
      Context.get(Kv.Kv)
    ),
    compact: cluster.compact,
    passTime: Effect.sleep
  }))

const empty = Effect.gen(function*() {
  const kv = yield* (yield* Store).client
  yield* kv.deleteRange(KeyRange.all)
})

layer(Layer.provide(Layer.effect(Store, store), EtcdCluster.layer()), {
  excludeTestServices: true,
  timeout: "1 minute"
})(
  "reactivity on etcd",
  (it) =>
    suite((title, effect) => it.effect(title, () => Effect.provide(Effect.andThen(empty, effect), Logger.layer([]))))
)
