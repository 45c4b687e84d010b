/**
 * The namespace of a call, for its span: the prefixes of `Kv.prefixed` around it.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { KvBackend } from "../../backend/KvBackend.ts"
import { isTraced } from "./spans.ts"

/** The prefix of the keys of the current call, below that of the layer. */
export const Current: Context.Reference<string> = Context.Reference("@effect-kv/core/Namespace", {
  defaultValue: () => ""
})

/** Names the namespace in the spans of the calls. Without a tracer it is only a test. */
export const named = (prefix: string) => (backend: KvBackend): KvBackend => {
  const inNamespace = <A, E, R>(call: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.withFiber<A, E, R>((fiber) =>
      isTraced(fiber) ? Effect.provideService(call, Current, prefix + fiber.getRef(Current)) : call
    )
  return {
    ...backend,
    execute: (op) => inNamespace(backend.execute(op)),
    watch: (request) => inNamespace(backend.watch(request))
  }
}
