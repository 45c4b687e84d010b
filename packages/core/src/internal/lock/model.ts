/**
 * Locks as values: the types that the `DistLock` module and the lock's engine share.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { LockLost } from "../../values/LockError.ts"

/** The name of one lock, or the names of several that are acquired as one. */
export type LockNames = string | NonEmptyReadonlyArray<string>

/** One of the locks that are held as one. */
export interface LockPart {
  readonly name: string
  /** The key it is held by. */
  readonly key: string
  /** The fencing token: the key's create revision. Each holder's is larger than those of all holders before it. */
  readonly token: bigint
}

/** Several locks that are held as one: none without the others, lost with the first that is lost. */
export interface MultiLock {
  /** Each of the locks, in the order they were acquired. */
  readonly parts: NonEmptyReadonlyArray<LockPart>
  /** Whether all are held, as far as is known at this moment. Only a fenced write can be sure. */
  readonly isHeld: Effect.Effect<boolean>
  /** The same as a plain function. */
  readonly isHeldUnsafe: () => boolean
  /** Waits until a lock is lost or all are released, then fails. */
  readonly lost: Effect.Effect<never, LockLost>
  /** How long they have been held. */
  readonly heldFor: Effect.Effect<Duration.Duration>
}

/** A lock that is held. */
export interface Lock extends MultiLock, LockPart {}

/** What acquiring by these names gives: a `Lock` for one name, a `MultiLock` for several. */
export type LockOf<Names extends LockNames> = Names extends string ? Lock : MultiLock

/** Options of acquiring a lock. */
export interface AcquireOptions {
  /**
   * Time to live of the lease that the lock is held by: how long the lock stays held after its holder crashes. The lease is
   * renewed as long as the holder lives. Default: 10 seconds.
   */
  readonly ttl?: Duration.Input | undefined
  /**
   * How long to wait for the lock; then fails with `LockTimeout` and leaves nothing. 0 is allowed: a free lock is acquired
   * with any timeout, since the store always has a second (or the call's `Deadline`, if that is shorter) to answer the first
   * request. Default: indefinitely.
   */
  readonly acquireTimeout?: Duration.Input | undefined
  /** What other clients can read of the holder, for operators: see {@link holder}. Not a secret. Default: empty. */
  readonly description?: string | undefined
}
