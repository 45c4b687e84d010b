/**
 * A program that prints which of etcd3's packages are loaded after `EtcdLayer` is used, and after `EtcdClient` is.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdClient from "@effect-kv/etcd/EtcdClient"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as Effect from "effect/Effect"
import { createRequire } from "node:module"

/** All of these are CommonJS packages. */
const files = createRequire(import.meta.url).cache

const loaded = () =>
  ["etcd3", "@grpc/grpc-js", "@grpc/proto-loader", "protobufjs"].filter((name) =>
    Object.keys(files).some((file) => file.includes(`/node_modules/${name}/`))
  )

const program = Effect.gen(function*() {
  yield* Kv.put("a", "1")
  yield* Kv.get("a")
  const before = loaded()
  const etcd3 = yield* Effect.flatMap(EtcdClient.EtcdClient, ({ etcd3 }) => etcd3)
  yield* Effect.promise(() => etcd3.maintenance.status())
  return { before, after: loaded() }
})

const layer = EtcdLayer.layer({ endpoints: [process.argv[2]!] })
console.log(JSON.stringify(await Effect.runPromise(Effect.provide(program, layer))))
console.log("closed")
