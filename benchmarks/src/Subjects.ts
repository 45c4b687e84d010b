/**
 * The clients that are compared.
 */
import { Kv } from "@effect-kv/core"
import { EtcdLayer } from "@effect-kv/etcd"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Etcd3 } from "etcd3"

/** A client of this library. */
export const effectKv = (endpoints: ReadonlyArray<string>) =>
  Effect.map(Layer.build(EtcdLayer.layer({ endpoints })), (context) => Context.get(context, Kv.Kv))

/** A client of the `etcd3` package, as it comes. */
export const etcd3 = (endpoints: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => new Etcd3({ hosts: [...endpoints] })),
    (client) => Effect.sync(() => client.close())
  )

export const value = "x".repeat(100)
