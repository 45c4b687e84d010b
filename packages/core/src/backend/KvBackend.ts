/**
 * What a store must be able to do: six functions. `Kv.make` derives everything an application uses from them.
 *
 * What cuts across operations is a wrapper, a function `KvBackend -> KvBackend`: `Namespace.prefixed`, `Tracing.traced`,
 * `Batching.batched`, or one of your own. Wrappers are curried, so that they compose; the last one is the outermost, and
 * sees a call first and its response last:
 *
 * ```ts
 * const backend = pipe(store, Batching.batched(), Tracing.traced({ "db.system.name": "mine" }), Namespace.prefixed("app/"))
 * ```
 *
 * Every other function with a subject is dual (`Kv.prefixed(kv, "app/")` or `pipe(kv, Kv.prefixed("app/"))`), or takes the
 * subject first (`KvBackend.execute(backend, op)`). Options come last and can be left out.
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
 * Each function answers within the current `Deadline`, can be interrupted at any time, and checks its input first
 * (see `Check`). A write that may have been sent and is not known to have been applied or rejected fails with
 * `Indeterminate`, and is never sent again; reads may be.
 */
export interface KvBackend {
  /** Executes an operation, atomically. The response has the tag of the operation. */
  readonly execute: (op: Op) => Effect.Effect<Response, KvError>
  /**
   * Opens a watch. Resolves when the store has confirmed it: whatever happens to the store afterwards is delivered.
   * Closing the scope ends it, in the store too.
   */
  readonly watch: (request: WatchRequest) => Effect.Effect<Watcher, KvError, Scope.Scope>
  /** Grants a lease; fails with `LeaseExists` where the id asked for is taken. */
  readonly leaseGrant: (options: Lease.GrantOptions) => Effect.Effect<Lease.Lease, KvError>
  /** Starts a lease's time to live anew; fails with `LeaseNotFound` where it is gone. */
  readonly leaseKeepAlive: (id: bigint) => Effect.Effect<Lease.Lease, KvError>
  /** Ends a lease and deletes its keys; fails with `LeaseNotFound` where it is gone. */
  readonly leaseRevoke: (id: bigint) => Effect.Effect<void, KvError>
  /** Tells how long a lease has left, and on request its keys; fails with `LeaseNotFound` where it is gone. */
  readonly leaseTimeToLive: (
    id: bigint,
    options?: { readonly keys?: boolean | undefined }
  ) => Effect.Effect<Lease.Status, KvError>
}

/**
 * Executes an operation; the type of the response follows from the operation's, through nested transactions too.
 *
 * **When to use**
 *
 * In a recipe. A wrapper calls `backend.execute`: it returns a response of the operation that it was given, and needs no
 * more of its type than the tag.
 */
export const execute = <const O extends Op>(backend: KvBackend, op: O): Effect.Effect<Response<O>, KvError> =>
  // The one cast: that a response has the tag and the parts of its operation is a rule of backends, not of the type.
  backend.execute(op) as Effect.Effect<Response<O>, KvError>
