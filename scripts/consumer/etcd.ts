/**
 * A user's program with the etcd backend: constructed and closed without a server, with the types of the suite beside
 * it.
 */
import { EtcdLayer } from "@effect-kv/etcd"
import type * as TestSuite from "@effect-kv/test-suite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export type Suite = typeof TestSuite

await Effect.runPromise(
  Effect.scoped(Layer.build(EtcdLayer.layer({ endpoints: ["http://127.0.0.1:1"] })))
)
