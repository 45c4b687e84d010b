/**
 * A call to one of the six functions of a backend, as a value, and a wrapper around all calls of a backend.
 *
 * Faults select calls by it. `around` is a function `KvBackend => KvBackend`, and composes with every other such function.
 */
import type * as Compare from "@effect-kv/core/Compare"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type { WatchRequest } from "@effect-kv/core/Watch"
import type * as Effect from "effect/Effect"

/** A call to one of the six functions of a backend. */
export interface Call {
  readonly kind: "execute" | "watch" | "leaseGrant" | "leaseKeepAlive" | "leaseRevoke" | "leaseTimeToLive"
  /** The operation of `execute`. */
  readonly op?: Op.Op
  /** The request of `watch`. */
  readonly request?: WatchRequest
  /** The id of the lease. For a grant, the requested id. */
  readonly lease?: bigint | undefined
}

/** Whether the call can change the store. A renewal does not count, because repeating it has no further effect. */
export const isWrite = (call: Call): boolean =>
  call.kind === "execute"
    ? call.op !== undefined && Op.isWrite(call.op)
    : call.kind === "leaseGrant" || call.kind === "leaseRevoke"

/** All operations of a call, those in transactions included, so that a fenced put contains its put. */
export const operations = (call: Call): ReadonlyArray<Op.Op> => call.op === undefined ? [] : flatten(call.op)

const flatten = (op: Op.Op): ReadonlyArray<Op.Op> =>
  op._tag === "Txn" ? [op, ...op.then.flatMap(flatten), ...op.else.flatMap(flatten)] : [op]

/** All conditions of a call, those of nested transactions included. */
export const conditions = (call: Call): ReadonlyArray<Compare.Compare> =>
  operations(call).flatMap((op) => op._tag === "Txn" ? op.if : [])

/** A condition for calls that put this key or delete it as a single key, also in a transaction, fenced or not. */
export const writes = (key: string) => (call: Call): boolean =>
  operations(call).some((op) => op._tag === "Put" ? op.key === key : op._tag === "Delete" && isKey(op, key))

/** A condition for calls that read this key as a single key, also in a transaction. */
export const reads = (key: string) => (call: Call): boolean =>
  operations(call).some((op) => op._tag === "Range" && isKey(op, key))

const isKey = (op: Op.Range | Op.Delete, key: string): boolean => op.range._tag === "Key" && op.range.key === key

/** A wrapper of calls. `effect` makes the call. */
export type Around = <A, R>(call: Call, effect: Effect.Effect<A, KvError, R>) => Effect.Effect<A, KvError, R>

/** Wraps each call of a backend. For a watch it wraps the opening. */
export const around = (f: Around) => (backend: KvBackend): KvBackend => ({
  execute: (op) => f({ kind: "execute", op }, backend.execute(op)),
  watch: (request) => f({ kind: "watch", request }, backend.watch(request)),
  leaseGrant: (options) => f({ kind: "leaseGrant", lease: options.id }, backend.leaseGrant(options)),
  leaseKeepAlive: (id) => f({ kind: "leaseKeepAlive", lease: id }, backend.leaseKeepAlive(id)),
  leaseRevoke: (id) => f({ kind: "leaseRevoke", lease: id }, backend.leaseRevoke(id)),
  leaseTimeToLive: (id, options) => f({ kind: "leaseTimeToLive", lease: id }, backend.leaseTimeToLive(id, options))
})
