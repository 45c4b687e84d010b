/**
 * The parts that a `Kv` is made of: its backends, its client and the sessions of that client.
 *
 * An application neither sees nor names them. `KvInternals` gives authors of recipes and wrappers what they need.
 */
import type { KvBackend } from "../../backend/KvBackend.ts"
import type { SessionPool } from "../session/sessionPool.ts"
import type { Origin } from "./guard.ts"

/**
 * Identifies the `Kv` service.
 *
 * @since 0.1.0
 */
export const TypeId: TypeId = "~@effect-kv/core/Kv"

/**
 * Identifies the `Kv` service.
 *
 * @since 0.1.0
 */
export type TypeId = "~@effect-kv/core/Kv"

export interface Parts {
  /** The six functions, with each write conditional on the fences of the calling fiber. */
  readonly backend: KvBackend
  /** The same without any fence, for the bookkeeping of locks, sessions and temporary keys. */
  readonly unfenced: KvBackend
  /** The client, and how the `Kv` sees that client's store. */
  readonly origin: Origin
  /** The sessions that locks and temporary keys share, one per time to live. */
  readonly sessions: SessionPool
}

/**
 * The parts of a `Kv`, opaque. They are a private field, so that printing a `Kv` does not print its connections.
 *
 * @since 0.1.0
 */
export class Internals {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** @internal */
  static parts(self: Internals): Parts {
    return self.#parts
  }
}

/** The parts of a `Kv`. */
export const of = (kv: { readonly [TypeId]: Internals }): Parts => Internals.parts(kv[TypeId])
