/**
 * One instance of the service.
 *
 *     node examples/src/app/main.ts
 *     KV_URL=http://127.0.0.1:2379 PORT=8080 node examples/src/app/main.ts
 */
import { Kv } from "@effect-kv/core"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Config from "effect/Config"
import * as Layer from "effect/Layer"
import { createServer } from "node:http"
import { hostname } from "node:os"
import * as StoreByUrl from "../StoreByUrl.ts"
import * as App from "./App.ts"
import { Instance } from "./Instance.ts"

const instance = Config.all({
  name: Config.withDefault(Config.NonEmptyString("INSTANCE"), `${hostname()}-${process.pid}`),
  ttl: Config.withDefault(Config.Duration("INSTANCE_TTL"), "10 seconds" as const)
})

const server = NodeHttpServer.layerConfig(createServer, {
  host: Config.withDefault(Config.String("HOST"), "127.0.0.1"),
  /** 0 is a free port. */
  port: Config.withDefault(Config.Port("PORT"), 0),
  gracefulShutdownTimeout: Config.succeed("2 seconds" as const)
})

App.layer.pipe(
  Layer.provide(server),
  Layer.provide(Layer.effect(Instance, instance)),
  Layer.provide(Kv.layerPrefixed("examples/app/")),
  Layer.provide(StoreByUrl.layer),
  Layer.launch,
  NodeRuntime.runMain
)
