/**
 * The real servers that cases run on, one for all cases of a file. Postgres is left out on a platform without it, and the
 * summary of `npm test` says so.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import { EtcdCluster, PostgresServer } from "@effect-kv/test-suite/verification"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"

export class Server extends Context.Service<Server, {
  /** For a process of its own. */
  readonly url: string
  /** A client of its own, as another process has. */
  readonly connect: Effect.Effect<Kv.Kv, KvError.KvError, Scope.Scope>
}>()("test/Server") {}

const serverOf = (url: string, open: (url: string) => Layer.Layer<Kv.Kv, KvError.KvError>) =>
  Server.of({
    url,
    connect: Effect.map(Effect.suspend(() => Layer.build(Layer.fresh(open(url)))), Context.get(Kv.Kv))
  })

const etcd = Layer.effect(
  Server,
  Effect.map(EtcdCluster.EtcdCluster, ({ endpoints }) => serverOf(endpoints[0]!, EtcdLayer.fromUrl))
)

const postgres = Layer.effect(
  Server,
  Effect.map(PostgresServer.PostgresServer, ({ url }) => serverOf(url, PostgresLayer.fromUrl))
)

export const servers: ReadonlyArray<readonly [name: string, Layer.Layer<Server, unknown>]> = [
  ["etcd", Layer.provide(etcd, EtcdCluster.layer())],
  ...(process.env["EFFECT_KV_POSTGRES"] ? [["Postgres", Layer.provide(postgres, PostgresServer.layer())] as const] : [])
]
