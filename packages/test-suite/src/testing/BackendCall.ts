/**
 * Calls of a backend's six functions, as values, and a function that wraps all of them.
 *
 * Faults are chosen by the call, and histories consist of calls. {@link around} is a function `KvBackend => KvBackend`,
 * so it composes with namespaces, batching and tracing.
 */
import type * as Compare from "@effect-kv/core/Compare"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type { WatchRequest } from "@effect-kv/core/Watch"
import type * as Effect from "effect/Effect"

/**
 * A call of one of the six functions.
 *
 * @since 0.1.0
 */
export interface Call {
  /** The function that is called. */
  readonly kind: "execute" | "watch" | "leaseGrant" | "leaseKeepAlive" | "leaseRevoke" | "leaseTimeToLive"
  /** The operation, for `execute`. */
  readonly op?: Op.Op
  /** The request, for `watch`. */
  readonly request?: WatchRequest
  /** The id, for calls about an existing lease, and for a grant that requests an id. */
  readonly lease?: bigint | undefined
}

/**
 * Returns true if the call can change the store. A renewal of a lease does not count: repeating it has no further
 * effect.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 * import { BackendCall } from "@effect-kv/test-suite/testing"
 *
 * BackendCall.isWrite({ kind: "execute", op: Op.put("a", "1") }) // => true
 * BackendCall.isWrite({ kind: "leaseKeepAlive", lease: 1n }) // => false
 * ```
 *
 * @since 0.1.0
 */
export const isWrite = (call: Call): boolean =>
  call.kind === "execute"
    ? call.op !== undefined && Op.isWrite(call.op)
    : call.kind === "leaseGrant" || call.kind === "leaseRevoke"

/**
 * Every operation of a call, including those inside transactions. For a fenced put that includes the put.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 * import { BackendCall } from "@effect-kv/test-suite/testing"
 *
 * const op = Op.txn({ then: [Op.put("a", "1"), Op.get("b")] })
 * const tags = BackendCall.operations({ kind: "execute", op }).map((op) => op._tag) // => ["Txn", "Put", "Range"]
 * ```
 *
 * @since 0.1.0
 */
export const operations = (call: Call): ReadonlyArray<Op.Op> => call.op === undefined ? [] : flatten(call.op)

const flatten = (op: Op.Op): ReadonlyArray<Op.Op> =>
  op._tag === "Txn" ? [op, ...op.then.flatMap(flatten), ...op.else.flatMap(flatten)] : [op]

/**
 * The conditions of a call, including those of nested transactions.
 *
 * @example
 * ```ts
 * import { Compare, Op } from "@effect-kv/core"
 * import { BackendCall } from "@effect-kv/test-suite/testing"
 *
 * const op = Op.txn({ if: [Compare.missing("a")], then: [Op.put("a", "1")] })
 * BackendCall.conditions({ kind: "execute", op }) // => [Compare.missing("a")]
 * ```
 *
 * @since 0.1.0
 */
export const conditions = (call: Call): ReadonlyArray<Compare.Compare> =>
  operations(call).flatMap((op) => op._tag === "Txn" ? op.if : [])

/**
 * Matches calls that put this key or delete it as a single key, also inside a transaction, fenced or not.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 * import { BackendCall } from "@effect-kv/test-suite/testing"
 *
 * const writesA = BackendCall.writes("a")
 * writesA({ kind: "execute", op: Op.txn({ then: [Op.put("a", "1")] }) }) // => true
 * writesA({ kind: "execute", op: Op.get("a") }) // => false
 * ```
 *
 * @since 0.1.0
 */
export const writes = (key: string) => (call: Call): boolean =>
  operations(call).some((op) => op._tag === "Put" ? op.key === key : op._tag === "Delete" && isKey(op, key))

/**
 * Matches calls that read this key as a single key, also inside a transaction.
 *
 * @example
 * ```ts
 * import { KeyRange, Op } from "@effect-kv/core"
 * import { BackendCall } from "@effect-kv/test-suite/testing"
 *
 * const readsA = BackendCall.reads("a")
 * readsA({ kind: "execute", op: Op.get("a") }) // => true
 * readsA({ kind: "execute", op: Op.range(KeyRange.all) }) // => false
 * ```
 *
 * @since 0.1.0
 */
export const reads = (key: string) => (call: Call): boolean =>
  operations(call).some((op) => op._tag === "Range" && isKey(op, key))

const isKey = (op: Op.Range | Op.Delete, key: string): boolean => op.range._tag === "Key" && op.range.key === key

/**
 * Wraps one call: `effect` executes it.
 *
 * @since 0.1.0
 */
export type Around = <A, R>(call: Call, effect: Effect.Effect<A, KvError, R>) => Effect.Effect<A, KvError, R>

/**
 * Wraps each call of a backend. For a watch, it wraps the opening.
 *
 * @example
 * ```ts
 * import { Kv } from "@effect-kv/core"
 * import { BackendCall } from "@effect-kv/test-suite/testing"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kinds: Array<string> = []
 *   const counted = BackendCall.around((call, effect) => {
 *     kinds.push(call.kind)
 *     return effect
 *   })
 *   const kv = Kv.mapBackend(yield* Kv.Kv, counted)
 *   yield* kv.put("a", "1")
 *   yield* kv.get("a")
 *   const seen = kinds // => ["execute", "execute"]
 * })
 * ```
 *
 * @since 0.1.0
 */
export const around = (f: Around) => (backend: KvBackend): KvBackend => ({
  execute: (op) => f({ kind: "execute", op }, backend.execute(op)),
  watch: (request) => f({ kind: "watch", request }, backend.watch(request)),
  leaseGrant: (options) => f({ kind: "leaseGrant", lease: options.id }, backend.leaseGrant(options)),
  leaseKeepAlive: (id) => f({ kind: "leaseKeepAlive", lease: id }, backend.leaseKeepAlive(id)),
  leaseRevoke: (id) => f({ kind: "leaseRevoke", lease: id }, backend.leaseRevoke(id)),
  leaseTimeToLive: (id, options) => f({ kind: "leaseTimeToLive", lease: id }, backend.leaseTimeToLive(id, options))
})
