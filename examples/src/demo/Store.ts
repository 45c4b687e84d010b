/**
 * The store of the demo: the one that `KV_URL` names, with a namespace for this run.
 */
import { Kv, KvError, KvUrl } from "@effect-kv/core"
import { EtcdLayer } from "@effect-kv/etcd"
import { MemoryLayer } from "@effect-kv/memory"
import { PostgresLayer } from "@effect-kv/postgres"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { randomUUID } from "node:crypto"

/** All layers in this process share the store of this name. */
export const url = process.env["KV_URL"] ?? "mem:demo"

const isMemory = url.startsWith("mem:")

/** The kind of store and its address, without the password that the URL may contain. */
export const describe = isMemory
  ? "memory"
  : `${url.startsWith("postgres") ? "Postgres" : "etcd"} at ${
    url.replace(/^([a-z]+:\/\/)[^@/]*@/, "$1").replace(/([?&]password=)[^&#]*/g, "$1...")
  }`

export const freshNamespace = (): string => `effect-kv-demo/${randomUUID().slice(0, 8)}/`

export const namespaceOf = (given: string | undefined): string => given ?? freshNamespace()

export const layer = (namespace: string): Layer.Layer<Kv.Kv, KvError.KvError> =>
  Kv.layerPrefixed(namespace).pipe(
    Layer.provide(KvUrl.layer(url, {
      mem: MemoryLayer.fromUrl,
      http: EtcdLayer.fromUrl,
      https: EtcdLayer.fromUrl,
      postgres: PostgresLayer.fromUrl,
      postgresql: PostgresLayer.fromUrl
    }))
  )

/** Processes do not share memory. */
export const mustBeShared: Effect.Effect<void, KvError.KvError> = isMemory
  ? KvError.fail(
    new KvError.InvalidRequest({
      message: "processes cannot share a store in memory; name an etcd or Postgres server: KV_URL=http://127.0.0.1:2379"
    })
  )
  : Effect.void
