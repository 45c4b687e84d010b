/**
 * Service registry: instances register their endpoints in the format that Go's gRPC resolver reads, and a client picks
 * one for each request from a live view.
 *
 *     node examples/src/ServiceRegistry.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/ServiceRegistry.ts
 */
import { Kv, type KvError, Members } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Array from "effect/Array"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as StoreByUrl from "./StoreByUrl.ts"

/** Lists the instance until the scope closes. */
export const register = (id: string, address: string) =>
  Members.join("api", { id, value: { address, metadata: null }, schema: Members.GoEndpoint })

export interface Balancer {
  /** The addresses of the instances, as far as their values can be read. */
  readonly addresses: Effect.Effect<ReadonlyArray<string>, KvError.KvError>
  /** The address for a request: the same instance for the same key, as long as it lives. */
  readonly pick: (key: string) => Effect.Effect<Option.Option<string>, KvError.KvError>
}

/** Follows the instances until the scope closes. In an outage of the store it continues with the last known ones. */
export const balance: Effect.Effect<Balancer, KvError.KvError, Kv.Kv | Scope.Scope> = Effect.gen(function*() {
  const { snapshot } = yield* Members.view("api", Members.GoEndpoint)
  const readable = Effect.map(
    snapshot,
    ({ members }) =>
      new Map(
        Array.getSuccesses(
          [...members].map(([id, value]) => Result.map(value, ({ address }) => [id, address] as const))
        )
      )
  )
  return {
    addresses: Effect.map(readable, (known) => [...known.values()]),
    pick: (key) =>
      Effect.map(
        readable,
        (known) => Option.map(Option.fromUndefinedOr(Members.owner(key, known.keys())), (id) => known.get(id)!)
      )
  }
})

/** Two instances run, one is drained and leaves. */
export const program = Effect.gen(function*() {
  const show = Members.watch("api", Members.GoEndpoint).pipe(
    Stream.takeUntil(({ members }) => members.has("b") && !members.has("a")),
    Stream.runForEach(({ members, staleSince }) =>
      Console.log(`${[...members.keys()].join(", ") || "none"}${Option.isSome(staleSince) ? " (stale)" : ""}`)
    )
  )
  yield* Effect.forkScoped(
    Effect.scoped(Effect.gen(function*() {
      yield* Effect.sleep("200 millis")
      const a = yield* register("a", "10.0.0.1:80")
      yield* Effect.sleep("200 millis")
      yield* a.update({ address: "10.0.0.1:80", metadata: "draining" })
      yield* Effect.sleep("200 millis")
    }))
  )
  yield* Effect.forkScoped(Effect.andThen(Effect.sleep("300 millis"), register("b", "10.0.0.2:80")))
  yield* show
  const { pick } = yield* balance
  yield* Console.log(`request for ada: ${Option.getOrElse(yield* pick("ada"), () => "nobody")}`)
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(
      Effect.scoped,
      Effect.provide(Kv.layerPrefixed("examples/service-registry/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
