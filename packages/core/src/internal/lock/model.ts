/**
 * What a lock is: the types that the `DistLock` module and the lock's engine share.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { LockLost } from "../../values/LockError.ts"

/** A lock that is held. */
export interface Lock {
  /** Its name. */
  readonly name: string
  /** The key it is held by. */
  readonly key: string
  /** The fencing token: the key's create revision. Each holder's is larger than those of all before it. */
  readonly token: bigint
  /** Each of the locks that were taken as one, in the order they were taken. */
  readonly all: ReadonlyArray<{ readonly name: string; readonly key: string; readonly token: bigint }>
  /** Whether it is held, as far as is known at this moment. Only a fenced write can be sure. */
  readonly isHeld: Effect.Effect<boolean>
  /** The same as a plain function. */
  readonly isHeldUnsafe: () => boolean
  /** Waits until the lock is lost or given back, and fails then. */
  readonly lost: Effect.Effect<never, LockLost>
  /** For how long it has been held. */
  readonly heldFor: Effect.Effect<Duration.Duration>
}

/** Options of taking a lock. */
export interface AcquireOptions {
  /**
   * Time to live of the lease the lock is held by: how long others must wait after its holder has died without a word.
   * Renewed by itself as long as the holder lives. Default: 10 seconds.
   */
  readonly ttl?: Duration.Input | undefined
  /**
   * How long to wait for it; then fails with `LockTimeout` and leaves nothing. 0 is allowed: a free lock is acquired with any
   * timeout, since the store always has a second (or the call's `Deadline`, if that is shorter) to answer the first request.
   * Default: for ever.
   */
  readonly acquireTimeout?: Duration.Input | undefined
  /** What the holder wants known of itself, for operators: see {@link holder}. Not a secret. Default: empty. */
  readonly description?: string | undefined
}
