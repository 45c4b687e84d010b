/**
 * Elections as values: the types that the `Election` module and its engine share.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as KvError from "../../values/KvError.ts"
import type { LockLost } from "../../values/LockError.ts"
import type { Lock } from "../queue/model.ts"

/**
 * A candidate of an election, as every client sees it. The oldest candidate is the leader.
 *
 * @since 0.1.0
 */
export interface Candidate {
  /** The key by which it leads or waits. */
  readonly key: string
  /** The fencing token: the key's create revision. Each leader's is larger than those of all leaders before it. */
  readonly token: bigint
  /** Its lease; `none` for a key without a lease, which something other than an election put there. */
  readonly lease: Option.Option<bigint>
  /** What it campaigned with or has proclaimed since. Bytes that are not UTF-8 are replaced. */
  readonly value: string
  /** The revision at which it wrote the value. */
  readonly revision: bigint
}

/**
 * The health check of a leader. If it fails, dies or does not end in time, the leadership is given up.
 *
 * @since 0.1.0
 */
export interface Health {
  /** Succeeds if the leader can do its work. */
  readonly check: Effect.Effect<unknown, unknown>
  /** The pause between two checks. Default: 5 seconds. */
  readonly interval?: Duration.Input | undefined
  /** How long a check may take. Default: the interval. */
  readonly timeout?: Duration.Input | undefined
}

/**
 * A leadership of this client.
 *
 * @since 0.1.0
 */
export interface Leadership {
  /** The election's name. */
  readonly name: string
  /** The key that leads. */
  readonly key: string
  /** The fencing token: the key's create revision. Each leader's is larger than those of all leaders before it. */
  readonly token: bigint
  /** Whether it leads, as far as is known at this moment. Only a fenced write can be sure. */
  readonly isLeader: Effect.Effect<boolean>
  /** Waits until the leadership is lost or was resigned, then fails. */
  readonly lost: Effect.Effect<never, LockLost>
  /**
   * Replaces the value that other clients see, and returns the revision of the write.
   *
   * **Details**
   *
   * The write is conditional on the leadership. Otherwise it changes nothing and fails with the reason `LockLost`. The
   * key keeps its lease and its token. If the outcome is unknown, the value may be proclaimed, but never after a value
   * that was proclaimed later.
   */
  readonly proclaim: (value: string) => Effect.Effect<bigint, KvError.KvError>
  /** The leadership as a lock, for `DistLock.fenced` and `DistLock.fence`. */
  readonly lock: Lock
}

/**
 * A leadership that lasts until it is resigned, or until the scope of its campaign closes.
 *
 * @since 0.1.0
 */
export interface ScopedLeadership extends Leadership {
  /**
   * Gives the leadership up before the scope closes. It never fails. If the store is unreachable, the removal of the key
   * is repeated in the background.
   */
  readonly resign: Effect.Effect<void>
}

/**
 * A candidate of this client, which waits for its turn in the background, or leads.
 *
 * @since 0.1.0
 */
export interface Candidacy {
  /** The election's name. */
  readonly name: string
  /** The key by which it waits or leads. */
  readonly key: string
  /** The fencing token that it leads with. */
  readonly token: bigint
  /**
   * Waits until it leads. May be awaited any number of times, and interrupting it gives nothing up.
   *
   * **Details**
   *
   * Fails with `LockLost` if the candidate lost its place while it waited, or has left.
   */
  readonly elected: Effect.Effect<ScopedLeadership, KvError.KvError | LockLost>
  /**
   * Replaces the value that other clients see, while it waits as well as while it leads, and returns the revision of the
   * write. The candidate keeps its place in the queue.
   *
   * **Details**
   *
   * The write is conditional on the place. Otherwise it changes nothing and fails with the reason `LockLost`. If the
   * outcome is unknown, the value may be proclaimed, but never after a value that was proclaimed later.
   */
  readonly proclaim: (value: string) => Effect.Effect<bigint, KvError.KvError>
  /**
   * Leaves the queue, or gives the leadership up, before the scope closes. It never fails. If the store is unreachable,
   * the removal of the key is repeated in the background.
   */
  readonly leave: Effect.Effect<void>
}
