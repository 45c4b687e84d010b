/**
 * A call of one of the six functions of a backend, as a value, and a place to put something around all of them.
 *
 * For backends in tests: faults are chosen by the call, histories are made of calls. It is `KvBackend -> KvBackend`, so
 * what is put around them composes with everything else of that kind.
 */
import type * as Compare from "@effect-kv/core/Compare"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type { WatchRequest } from "@effect-kv/core/Watch"
import type * as Effect from "effect/Effect"

/** A call of one of the six functions. */
export interface Call {
  readonly kind: "execute" | "watch" | "leaseGrant" | "leaseKeepAlive" | "leaseRevoke" | "leaseTimeToLive"
  /** Of `execute`. */
  readonly op?: Op.Op
  /** Of `watch`. */
  readonly request?: WatchRequest
  /** Of those that are about a lease with an id, and of a grant that asks for one. */
  readonly lease?: bigint | undefined
}

/** Whether the call can change the store. A renewal does not count: repeated, it is the same as once. */
export const isWrite = (call: Call): boolean =>
  call.kind === "execute"
    ? call.op !== undefined && Op.isWrite(call.op)
    : call.kind === "leaseGrant" || call.kind === "leaseRevoke"

/** Every operation of a call, those in transactions too: of a fenced put the put. */
export const operations = (call: Call): ReadonlyArray<Op.Op> => call.op === undefined ? [] : flatten(call.op)

const flatten = (op: Op.Op): ReadonlyArray<Op.Op> =>
  op._tag === "Txn" ? [op, ...op.then.flatMap(flatten), ...op.else.flatMap(flatten)] : [op]

/** The conditions of a call, those of transactions in transactions too. */
export const conditions = (call: Call): ReadonlyArray<Compare.Compare> =>
  operations(call).flatMap((op) => op._tag === "Txn" ? op.if : [])

/** Calls that put this key or, as a single key, delete it; in a transaction, fenced or not, too. */
export const writes = (key: string) => (call: Call): boolean =>
  operations(call).some((op) => op._tag === "Put" ? op.key === key : op._tag === "Delete" && isKey(op, key))

/** Calls that read this key as a single key, in a transaction too. */
export const reads = (key: string) => (call: Call): boolean =>
  operations(call).some((op) => op._tag === "Range" && isKey(op, key))

const isKey = (op: Op.Range | Op.Delete, key: string): boolean => op.range._tag === "Key" && op.range.key === key

/** What is done around a call: `effect` makes it. */
export type Around = <A, R>(call: Call, effect: Effect.Effect<A, KvError, R>) => Effect.Effect<A, KvError, R>

/** Puts something around each call of a backend. Of a watch it is around the opening. */
export const around = (f: Around) => (backend: KvBackend): KvBackend => ({
  execute: (op) => f({ kind: "execute", op }, backend.execute(op)),
  watch: (request) => f({ kind: "watch", request }, backend.watch(request)),
  leaseGrant: (options) => f({ kind: "leaseGrant", lease: options.id }, backend.leaseGrant(options)),
  leaseKeepAlive: (id) => f({ kind: "leaseKeepAlive", lease: id }, backend.leaseKeepAlive(id)),
  leaseRevoke: (id) => f({ kind: "leaseRevoke", lease: id }, backend.leaseRevoke(id)),
  leaseTimeToLive: (id, options) => f({ kind: "leaseTimeToLive", lease: id }, backend.leaseTimeToLive(id, options))
})
