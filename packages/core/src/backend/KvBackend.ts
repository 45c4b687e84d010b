/**
 * Backends of `Kv`: the six functions that a store must provide.
 *
 * `Kv.make` derives everything that an application uses from them. A feature of all operations is a wrapper, a function
 * `KvBackend => KvBackend`: `Namespace.prefixed`, `Tracing.traced`, `Batching.batched`, or one of your own. Wrappers
 * are curried, so that they compose. The last one is the outermost: it sees a call first and its response last.
 *
 * ```ts nocheck
 * const backend = pipe(store, Batching.batched(), Tracing.traced({ "db.system.name": "mine" }), Namespace.prefixed("app/"))
 * ```
 *
 * Every other function with a subject is dual (`Kv.prefixed(kv, "app/")` or `pipe(kv, Kv.prefixed("app/"))`), or takes
 * the subject first (`KvBackend.execute(backend, op)`). Options come last and can be left out.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { KvError } from "../values/KvError.ts"
import type * as Lease from "../values/LeaseModel.ts"
import type { Op, Response } from "../values/Op.ts"
import type { Watcher, WatchRequest } from "../values/Watch.ts"

/**
 * A connection to a store.
 *
 * **Details**
 *
 * Each function responds within the current `Deadline`, can be interrupted at any time, and checks its input first (see
 * `Check`). If a write may have been applied but no response says so, the function fails with `Indeterminate` and never
 * sends the write again. It may repeat reads.
 *
 * @since 0.1.0
 */
export interface KvBackend {
  /** Executes an operation, atomically. The response has the tag of the operation. */
  readonly execute: (op: Op) => Effect.Effect<Response, KvError>
  /**
   * Opens a watch, and returns once the store has confirmed it: every change after that is delivered. When the scope
   * closes, the watch ends, in the store too.
   */
  readonly watch: (request: WatchRequest) => Effect.Effect<Watcher, KvError, Scope.Scope>
  /** Grants a lease. Fails with `LeaseExists` if the requested id is in use. */
  readonly leaseGrant: (options: Lease.GrantOptions) => Effect.Effect<Lease.Lease, KvError>
  /** Renews a lease: its time to live starts again. Fails with `LeaseNotFound` if it has ended. */
  readonly leaseKeepAlive: (id: bigint) => Effect.Effect<Lease.Lease, KvError>
  /** Ends a lease and deletes its keys. Fails with `LeaseNotFound` if it has ended. */
  readonly leaseRevoke: (id: bigint) => Effect.Effect<void, KvError>
  /** The time that a lease has left and, if requested, its keys. Fails with `LeaseNotFound` if it has ended. */
  readonly leaseTimeToLive: (
    id: bigint,
    options?: { readonly keys?: boolean | undefined }
  ) => Effect.Effect<Lease.Status, KvError>
}

/**
 * Executes an operation. The type of the response follows from that of the operation, through nested transactions too.
 *
 * **When to use**
 *
 * In a recipe. A wrapper calls `backend.execute` instead: it passes the response on, and only needs its tag.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 * import { KvBackend } from "@effect-kv/core/backend"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const backend = yield* store.connect
 *   yield* KvBackend.execute(backend, Op.put("a", "1"))
 *   const { count } = yield* KvBackend.execute(backend, Op.get("a", { countOnly: true }))
 *   const found = count // => 1
 * })
 * ```
 *
 * @since 0.1.0
 */
export const execute = <const O extends Op>(backend: KvBackend, op: O): Effect.Effect<Response<O>, KvError> =>
  // The one cast: the type of `execute` does not say that a response matches its operation. Every backend guarantees
  // it.
  backend.execute(op) as Effect.Effect<Response<O>, KvError>
