/**
 * The registry of the running instances and their addresses.
 */
import { type KvError, Members } from "@effect-kv/core"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { HttpServer } from "effect/http"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Instance } from "./Instance.ts"

const Address = Schema.Struct({ url: Schema.String })

export class Instances extends Context.Service<Instances, {
  /** The addresses by the names of the instances. From memory; in an outage of the store, the last ones known. */
  readonly addresses: Effect.Effect<Record<string, string>, KvError.KvError>
}>()("examples/app/Instances") {
  static readonly layer = Layer.effect(
    Instances,
    Effect.map(Members.view("instances", Address), ({ snapshot }) =>
      Instances.of({
        addresses: Effect.map(snapshot, ({ members }) =>
          Object.fromEntries(
            [...members].flatMap(([name, address]) => Result.isSuccess(address) ? [[name, address.success.url]] : [])
          ))
      }))
  )

  /** Lists this instance while it serves. */
  static readonly register = Layer.effectDiscard(
    Effect.gen(function*() {
      const { name, ttl } = yield* Instance
      const url = yield* HttpServer.addressFormattedWith(Effect.succeed)
      yield* Members.join("instances", { id: name, value: { url }, schema: Address, ttl })
    })
  )
}
