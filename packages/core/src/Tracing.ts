/**
 * A span for each call to a backend.
 *
 * Spans carry the operation, the keys it is about and how it ended: never a value. `EtcdLayer` has them on by default,
 * `MemoryLayer` does not.
 */
import * as Effect from "effect/Effect"
import type * as KeyRange from "./KeyRange.ts"
import type { KvBackend } from "./KvBackend.ts"
import type * as Op from "./Op.ts"

/** What is the same for all spans of a backend, such as `{ "db.system.name": "etcd" }`. */
export type Attributes = Readonly<Record<string, string>>

/** Puts each call in a span of its own, named `kv.range`, `kv.put`, `kv.delete`, `kv.txn`, `kv.watch`, `kv.leaseGrant`, ... */
export const traced = (attributes: Attributes) => (backend: KvBackend): KvBackend => {
  const span = (name: string, more?: Attributes) =>
    Effect.withSpan(`kv.${name}`, { kind: "client", attributes: { ...attributes, ...more } })
  return {
    execute: (op) => span(op._tag.toLowerCase(), describe(op))(backend.execute(op)),
    watch: (request) => span("watch", { "kv.range": describeRange(request.range) })(backend.watch(request)),
    leaseGrant: (options) => span("leaseGrant")(backend.leaseGrant(options)),
    leaseKeepAlive: (id) => span("leaseKeepAlive", lease(id))(backend.leaseKeepAlive(id)),
    leaseRevoke: (id) => span("leaseRevoke", lease(id))(backend.leaseRevoke(id)),
    leaseTimeToLive: (id, options) => span("leaseTimeToLive", lease(id))(backend.leaseTimeToLive(id, options))
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

const describeRange = (range: KeyRange.KeyRange): string => {
  switch (range._tag) {
    case "Key":
      return range.key
    case "HalfOpen":
      return `[${range.start}, ${range.end})`
    case "Prefix":
      return range.from === range.prefix ? `${range.prefix}*` : `[${range.from}, ${range.prefix}*)`
  }
}
