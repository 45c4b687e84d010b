/**
 * Options of a simulation, and the store it runs on.
 */
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * The store of a run, made for each run.
 *
 * @since 0.1.0
 */
export interface Store {
  /** Opens a new client. */
  readonly connect: Effect.Effect<KvBackend, never, Scope.Scope>
  /** Compacts the store at the revision. */
  readonly compact: (revision: bigint) => Effect.Effect<void, unknown>
  /** What is open in the store. */
  readonly statistics: Effect.Effect<{ readonly leases: number; readonly watches: number }>
}

/**
 * Options of a run.
 *
 * @since 0.1.0
 */
export interface Options {
  /** The seed of every step and fault of the run. */
  readonly seed: number
  /** Makes the store. */
  readonly store: Effect.Effect<Store>
  /** What each process puts between its clients and its link to the store. Default: nothing. */
  readonly between?: ((backend: KvBackend) => KvBackend) | undefined
}
