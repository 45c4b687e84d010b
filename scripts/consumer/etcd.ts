/** The same with etcd: its layer is built and closed without a server. */
import { EtcdLayer } from "@effect-kv/etcd"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

await Effect.runPromise(
  Effect.scoped(Layer.build(EtcdLayer.layer({ endpoints: ["http://127.0.0.1:1"] })))
)
