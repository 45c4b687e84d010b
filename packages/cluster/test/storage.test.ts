/**
 * Runner storage on memory, on etcd and on Postgres.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import { EtcdCluster, PostgresServer } from "@effect-kv/test-suite/verification"
import { describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { cases } from "./support/storageCases.ts"

const onEtcd = (options: Omit<EtcdLayer.Options, "endpoints">, users: ReadonlyArray<EtcdCluster.User> = []) =>
  Layer.unwrap(Effect.gen(function*() {
    const cluster = yield* EtcdCluster.make()
    if (users.length > 0) yield* cluster.enableAuth({ rootPassword: "root", users })
    return EtcdLayer.layer({ endpoints: cluster.endpoints, ...options })
  }))

const onPostgres = Layer.unwrap(Effect.map(PostgresServer.make(), ({ url }) => PostgresLayer.fromUrl(url)))

const password = "correct-horse"

const stores: ReadonlyArray<readonly [string, Layer.Layer<Kv.Kv, unknown>]> = [
  ["memory", MemoryLayer.layer],
  ["etcd", onEtcd({})],
  ...(process.env["EFFECT_KV_POSTGRES"] ? [["Postgres", onPostgres] as const] : []),
  [
    "etcd, as a user who may read and write the keys of the cluster only",
    onEtcd({ auth: { username: "app", password: Redacted.make(password) } }, [
      { name: "app", password, permissions: [{ permission: "readwrite", prefix: "c" }] }
    ])
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
