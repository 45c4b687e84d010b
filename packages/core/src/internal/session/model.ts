/**
 * Sessions as values: the types that the `Session` module and the session pool share.
 */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { SessionLost } from "./sessionLost.ts"

/**
 * A lease that is kept alive.
 *
 * @since 0.1.0
 */
export interface Session {
  /** The lease's id. */
  readonly lease: bigint
  /** The time to live that the store granted. */
  readonly ttl: Duration.Duration
  /** Whether the lease is known to be alive at this moment, by the clocks. */
  readonly isAlive: Effect.Effect<boolean>
  /** `isAlive` as a plain function. */
  readonly isAliveUnsafe: () => boolean
  /** Waits until the session is lost or its scope is closed, then fails. */
  readonly lost: Effect.Effect<never, SessionLost>
  /**
   * Requests a renewal now instead of at its time, to learn whether the lease is alive. Does not wait for the response.
   */
  readonly verify: Effect.Effect<void>
}

/**
 * Options of a session.
 *
 * @since 0.1.0
 */
export interface Options {
  /** Time to live of the lease. It is renewed at a third of what the store grants. Default: 10 seconds. */
  readonly ttl?: Duration.Input | undefined
}

/**
 * The time to live of a session that does not set one: 10 seconds.
 *
 * @since 0.1.0
 */
export const defaultTtl: Duration.Duration = Duration.seconds(10)
