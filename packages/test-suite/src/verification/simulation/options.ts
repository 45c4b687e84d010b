/**
 * Options of a simulation, and the store it runs on.
 */
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * The store of a run. Each run makes a new one.
 *
 * @since 0.1.0
 */
export interface Store {
  /** A new client, independent of the others. */
  readonly connect: Effect.Effect<KvBackend, never, Scope.Scope>
  /** Compacts the history before the revision. */
  readonly compact: (revision: bigint) => Effect.Effect<void, unknown>
  /** The number of leases and open watches in the store. */
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
  /** A function that each process puts between its clients and its link to the store. Default: none. */
  readonly between?: ((backend: KvBackend) => KvBackend) | undefined
}
