/**
 * The store of a case: a new one in memory, or a namespace of its own on a real server.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Server } from "./servers.ts"

export class Store extends Context.Service<Store, {
  /** A new client, as one process of a fleet. */
  readonly client: Effect.Effect<Kv.Kv, KvError.KvError, Scope.Scope>
}>()("test/Store") {}

/** A behavior that holds on every store. */
export interface Case {
  readonly title: string
  readonly run: Effect.Effect<void, unknown, Store | Scope.Scope>
}

export const inMemory: Layer.Layer<Store> = Layer.effect(
  Store,
  Effect.map(MemoryStore.make(), (store) => ({ client: Effect.flatMap(store.connect, Kv.make) }))
)

let namespaces = 0

export const onServer: Layer.Layer<Store, never, Server> = Layer.effect(
  Store,
  Effect.map(Server, ({ connect }) => {
    const prefix = `case-${++namespaces}/`
    return { client: Effect.map(connect, (kv) => Kv.prefixed(kv, prefix)) }
  })
)

/** A client of the case's store. */
export const client: Effect.Effect<Kv.Kv, KvError.KvError, Store | Scope.Scope> = Effect.flatMap(
  Store,
  (store) => store.client
)

export const clients = (n: number) => Effect.forEach(count(n), () => client)

export const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

export const count = (n: number): ReadonlyArray<number> => Array.from({ length: n }, (_, i) => i)
