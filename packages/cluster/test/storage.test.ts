/**
 * Runner storage on memory and on etcd.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { cases } from "./support/storageCases.ts"

const stores: ReadonlyArray<readonly [string, Layer.Layer<Kv.Kv, unknown>]> = [
  ["memory", MemoryLayer.layer],
  [
    "etcd",
    Layer.unwrap(
      Effect.map(EtcdCluster.EtcdCluster, ({ endpoints }) => EtcdLayer.layer({ endpoints }))
    ).pipe(Layer.provide(EtcdCluster.layer()))
  ]
]

for (const [name, store] of stores) {
  describe(`runner storage on ${name}`, () => {
    layer(store, { excludeTestServices: true })((it) => {
      for (const [index, { run, title }] of cases.entries()) {
        it.effect(title, () => Effect.flatMap(Kv.Kv, (kv) => run(kv, `c${index}`)))
      }
    })
  })
}
