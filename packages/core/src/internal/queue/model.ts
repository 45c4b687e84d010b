/**
 * Locks as values: the types that the `DistLock` module and the lock's engine share.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { LockLost } from "../../values/LockError.ts"

/**
 * The name of one lock, or the names of several that are acquired as one.
 *
 * @since 0.1.0
 */
export type LockNames = string | NonEmptyReadonlyArray<string>

/**
 * One of the locks that are held as one.
 *
 * @since 0.1.0
 */
export interface LockPart {
  /** The lock's name. */
  readonly name: string
  /** The key in the store that holds the lock. */
  readonly key: string
  /** The fencing token: the key's create revision. Each holder's is larger than those of all holders before it. */
  readonly token: bigint
}

/**
 * Several locks that are held as one: none without the others, lost with the first that is lost.
 *
 * @since 0.1.0
 */
export interface MultiLock {
  /** Each of the locks, in the order they were acquired. */
  readonly parts: NonEmptyReadonlyArray<LockPart>
  /** Whether all are held, as far as this client knows now. Only a fenced write is sure. */
  readonly isHeld: Effect.Effect<boolean>
  /** `isHeld` as a plain function. */
  readonly isHeldUnsafe: () => boolean
  /** Waits until a lock is lost or all are released, then fails. */
  readonly lost: Effect.Effect<never, LockLost>
  /** How long all of them have been held. */
  readonly heldFor: Effect.Effect<Duration.Duration>
}

/**
 * A lock that is held.
 *
 * @since 0.1.0
 */
export interface Lock extends MultiLock, LockPart {}

/**
 * The result of acquiring these names: a `Lock` for one name, a `MultiLock` for several.
 *
 * @since 0.1.0
 */
export type LockOf<Names extends LockNames> = Names extends string ? Lock : MultiLock

/**
 * Options of acquiring a lock.
 *
 * @since 0.1.0
 */
export interface AcquireOptions {
  /**
   * Time to live of the lease that holds the lock: how long the lock stays held after its holder crashes. The lease is
   * renewed as long as the holder lives. Default: 10 seconds.
   */
  readonly ttl?: Duration.Input | undefined
  /**
   * How long to wait for the lock. Then the acquisition fails with `LockTimeout` and leaves nothing. Default:
   * indefinitely.
   *
   * A free lock is acquired with any timeout, even 0: the store always has a second to respond to the first request, or
   * the call's `Deadline` if that is shorter.
   */
  readonly acquireTimeout?: Duration.Input | undefined
  /** A text about the holder that other clients can read: see {@link holder}. Not for secrets. Default: empty. */
  readonly description?: string | undefined
}
