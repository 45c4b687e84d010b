/**
 * A span for each call to a backend.
 *
 * Spans carry the operation, the keys it is about and how it ended: never a value. `EtcdLayer` has them on by default,
 * `MemoryLayer` does not.
 */
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import { describeRange } from "../internal/values/describeRange.ts"
import type * as Op from "../values/Op.ts"
import type { KvBackend } from "./KvBackend.ts"

/** What is the same for all spans of a backend, such as `{ "db.system.name": "etcd" }`. */
export type Attributes = Readonly<Record<string, string>>

/**
 * Puts each call in a span of its own, named `kv.range`, `kv.put`, `kv.delete`, `kv.txn`, `kv.watch`, `kv.leaseGrant`, ...
 *
 * **Details**
 *
 * Costs next to nothing where no tracer is installed: Effect's own keeps spans where nobody sees them, so none is made.
 */
export const traced = (attributes: Attributes) => (backend: KvBackend): KvBackend => {
  const traced = <A, E, R>(call: Effect.Effect<A, E, R>, name: string, more?: () => Attributes) =>
    Effect.withFiber<A, E, R>((fiber) =>
      fiber.getRef(Tracer.Tracer) === Tracer.nativeTracer
        ? call
        : Effect.withSpan(call, `kv.${name}`, {
          kind: "client",
          attributes: { ...attributes, ...more?.() },
          captureStackTrace: false // it would be this line
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
