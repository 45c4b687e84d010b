/**
 * This library with its defaults, and without batching.
 */
import { KeyRange, Kv } from "@effect-kv/core"
import { EtcdLayer } from "@effect-kv/etcd"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Calls from "./Calls.ts"

/** A client with the defaults. */
export const open = (endpoints: ReadonlyArray<string>) => build({ endpoints })

/** A client without batching. */
export const openUnbatched = (endpoints: ReadonlyArray<string>) => build({ endpoints, batching: false })

const build = (options: EtcdLayer.Options) =>
  Effect.map(Layer.build(EtcdLayer.layer(options)), (context) => Context.get(context, Kv.Kv))

export const calls = (name: string, kv: Kv.Kv): Calls.Calls => {
  const get = (caller: number) => kv.get(Calls.key(caller))
  const put = (caller: number) => kv.put(Calls.key(caller), Calls.value)
  const revisions: Array<bigint> = []
  return {
    get: { effect: get },
    put: { effect: put },
    mix: { effect: Calls.mix<Effect.Effect<unknown, unknown>>(get, put) },
    cas: {
      effect: (caller) =>
        Effect.map(
          kv.compareAndSet(Calls.casKey(name, caller), revisions[caller] ?? 0n, Calls.value),
          (revision) => revisions[caller] = Option.getOrThrow(revision)
        )
    },
    range: { effect: () => kv.range(KeyRange.prefix(Calls.prefix)) }
  }
}
