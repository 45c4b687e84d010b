/**
 * What a session is: the types that the `Session` module and what keeps sessions share.
 */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { SessionLost } from "./sessionLost.ts"

/** A lease and its upkeep. */
export interface Session {
  /** The lease's id. */
  readonly lease: bigint
  /** The time to live the store granted. */
  readonly ttl: Duration.Duration
  /** Whether the lease is known to live, by the clocks as they stand at this moment. */
  readonly isAlive: Effect.Effect<boolean>
  /** The same as a plain function. */
  readonly isAliveUnsafe: () => boolean
  /** Waits until the session is lost or its scope is closed, then fails. */
  readonly lost: Effect.Effect<never, SessionLost>
  /** Asks the store now, instead of at the next renewal, whether the lease lives. Does not wait for the answer. */
  readonly verify: Effect.Effect<void>
}

/** Options of a session. */
export interface Options {
  /** Time to live of the lease. Renewed at a third of what the store grants. Default: 10 seconds. */
  readonly ttl?: Duration.Input | undefined
}

/** The time to live of a session that does not say: 10 seconds. */
export const defaultTtl: Duration.Duration = Duration.seconds(10)
