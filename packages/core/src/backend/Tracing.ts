/**
 * Spans for the calls to a backend.
 *
 * A span records the operation, its keys and its exit, never a value. `EtcdLayer` traces by default, `MemoryLayer` does
 * not.
 */
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import { describeRange } from "../internal/values/describeRange.ts"
import type * as Op from "../values/Op.ts"
import type { KvBackend } from "./KvBackend.ts"

/**
 * Attributes of every span of a backend, such as `{ "db.system.name": "etcd" }`.
 *
 * @since 0.1.0
 */
export type Attributes = Readonly<Record<string, string>>

/**
 * Gives each call a span, named `kv.range`, `kv.put`, `kv.delete`, `kv.txn`, `kv.watch`, `kv.leaseGrant` and so on.
 *
 * **Details**
 *
 * Without a tracer it costs almost nothing: Effect's built-in tracer exports nothing, so no span is made for it.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { Tracing } from "@effect-kv/core/backend"
 * import { Effect, Tracer } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const names: Array<string> = []
 *   const tracer = Tracer.make({
 *     span: (options) => {
 *       names.push(options.name)
 *       return new Tracer.NativeSpan(options)
 *     }
 *   })
 *   const kv = Kv.mapBackend(yield* Kv.Kv, Tracing.traced({ "db.system.name": "memory" }))
 *   yield* kv.put("a", "1").pipe(Effect.withTracer(tracer))
 *   const seen = names // => ["kv.put"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const traced = (attributes: Attributes) => (backend: KvBackend): KvBackend => {
  const traced = <A, E, R>(call: Effect.Effect<A, E, R>, name: string, more?: () => Attributes) =>
    Effect.withFiber<A, E, R>((fiber) =>
      fiber.getRef(Tracer.Tracer) === Tracer.nativeTracer
        ? call
        : Effect.withSpan(call, `kv.${name}`, {
          kind: "client",
          attributes: { ...attributes, ...more?.() },
          captureStackTrace: false // it would show this line, not the caller's
        })
    )
  return {
    execute: (op) => traced(backend.execute(op), op._tag.toLowerCase(), () => describe(op)),
    watch: (request) => traced(backend.watch(request), "watch", () => ({ "kv.range": describeRange(request.range) })),
    leaseGrant: (options) => traced(backend.leaseGrant(options), "leaseGrant"),
    leaseKeepAlive: (id) => traced(backend.leaseKeepAlive(id), "leaseKeepAlive", () => lease(id)),
    leaseRevoke: (id) => traced(backend.leaseRevoke(id), "leaseRevoke", () => lease(id)),
    leaseTimeToLive: (id, options) => traced(backend.leaseTimeToLive(id, options), "leaseTimeToLive", () => lease(id))
  }
}

const lease = (id: bigint): Attributes => ({ "kv.lease": id.toString(16) })

const describe = (op: Op.Op): Attributes => {
  switch (op._tag) {
    case "Put":
      return { "kv.key": op.key }
    case "Range":
    case "Delete":
      return { "kv.range": describeRange(op.range) }
    case "Txn":
      return { "kv.txn": `if ${op.if.length} then ${op.then.length} else ${op.else.length}` }
  }
}
