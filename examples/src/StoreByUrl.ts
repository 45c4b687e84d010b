/**
 * The environment decides which store a program runs on: the one in `KV_URL`, or memory if that is not set.
 *
 *     node examples/src/StoreByUrl.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/StoreByUrl.ts
 *     KV_URL=postgres://localhost/app node examples/src/StoreByUrl.ts
 *
 * With `postgres:`, the layer has a pool of connections of its own. An application that has a `PgClient` already uses
 * `PostgresLayer.layer` on it instead.
 */
import { Kv, type KvError, KvUrl } from "@effect-kv/core"
import { EtcdLayer } from "@effect-kv/etcd"
import { MemoryLayer } from "@effect-kv/memory"
import { PostgresLayer } from "@effect-kv/postgres"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"

/** The application lists the backends that it can open. Other backends are not loaded. */
export const layer: Layer.Layer<Kv.Kv, KvError.KvError | Config.ConfigError> = KvUrl.layerConfig(
  Config.String("KV_URL").pipe(Config.withDefault("mem:")),
  {
    mem: MemoryLayer.fromUrl,
    http: EtcdLayer.fromUrl,
    https: EtcdLayer.fromUrl,
    postgres: PostgresLayer.fromUrl,
    postgresql: PostgresLayer.fromUrl
  }
)

/** Counts its own runs. On a server the count continues from run to run; `mem:` starts again with each process. */
export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  const runs = yield* kv.modify("runs", (current) => `${Number(current._tag === "Some" ? current.value : "0") + 1}`)
  yield* Console.log(`this is run number ${runs}`)
  return Number(runs)
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(Effect.provide(Kv.layerPrefixed("examples/store-by-url/")), Effect.provide(layer))
  )
}
