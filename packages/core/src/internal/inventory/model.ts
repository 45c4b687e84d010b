/**
 * An inventory as values: the types that the `Inventory` module and its implementation share.
 */
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { Entry } from "../../values/Entry.ts"
import type { KvError } from "../../values/KvError.ts"
import * as json from "../values/json.ts"

/**
 * A contender for a lock, an election, a read-write lock or a semaphore.
 *
 * @since 0.1.0
 */
export interface Contender {
  /** The key with which it holds or waits. */
  readonly key: string
  /** The fencing token: the revision at which it entered the queue. */
  readonly token: bigint
  /** Its lease; `none` for a key without a lease, which no recipe put there and which does not expire. */
  readonly lease: Option.Option<bigint>
  /** The `description` option of its acquisition, or the `value` of a candidate. `""` for a key without a lease. */
  readonly description: string
  /** Whether the queue's rule admits it at the revision of the snapshot. Otherwise it waits. */
  readonly isHolder: boolean
  /** `Read` for a reader of a read-write lock, otherwise `Write`. */
  readonly mode: "Read" | "Write"
  /** How many permits of a semaphore it holds or waits for; 1 for a lock. */
  readonly permits: number
  /** The revision at which it last wrote its description or value. */
  readonly revision: bigint
}

/**
 * A queue of contenders. Elections are locks: the store does not tell one from the other.
 *
 * @since 0.1.0
 */
export interface Queue {
  readonly kind: "Lock" | "RwLock" | "Semaphore"
  /** The name that its clients use. */
  readonly name: string
  /** The number of permits of a semaphore; `none` for a lock, and for a semaphore whose number is not in the store. */
  readonly permits: Option.Option<number>
  /** The holders and waiters in the order in which they came. */
  readonly contenders: ReadonlyArray<Contender>
}

/**
 * What the clients of a store hold and wait for, at one revision.
 *
 * @since 0.1.0
 */
export interface Snapshot {
  /** The revision of the store. */
  readonly revision: bigint
  /** The locks, elections, read-write locks and semaphores that have a contender, in the order of their names. */
  readonly queues: ReadonlyArray<Queue>
  /** The other keys with a lease, in their order: members, slots, temporary keys, runs in progress. */
  readonly leasedKeys: ReadonlyArray<Entry>
  /**
   * Since when this snapshot may be out of date, because this client is cut off from the store; `none` while it is
   * current.
   */
  readonly staleSince: Option.Option<DateTime.Utc>
}

/**
 * A view of an inventory. It fails once it is no longer kept current: with `Closed` after its scope or the client was
 * closed, with `PermissionDenied` if the permission was revoked.
 *
 * @since 0.1.0
 */
export interface View {
  /** The inventory now. */
  readonly snapshot: Effect.Effect<Snapshot, KvError>
  /** The inventory now, then after each change of it or of its staleness. A slow reader skips to the newest. */
  readonly changes: Stream.Stream<Snapshot, KvError>
}

/** A class because of `toJSON`: JSON has no bigints. */
export class SnapshotOf implements Snapshot {
  readonly revision: bigint
  readonly queues: ReadonlyArray<Queue>
  readonly leasedKeys: ReadonlyArray<Entry>
  readonly staleSince: Option.Option<DateTime.Utc>

  constructor(fields: Snapshot) {
    this.revision = fields.revision
    this.queues = fields.queues
    this.leasedKeys = fields.leasedKeys
    this.staleSince = fields.staleSince
  }

  toJSON(): unknown {
    return {
      ...json.fieldsOf(this),
      queues: this.queues.map((queue) => ({
        ...json.fieldsOf(queue),
        contenders: queue.contenders.map((contender) => ({
          ...json.fieldsOf(contender),
          lease: Option.match(contender.lease, { onNone: () => null, onSome: (lease) => lease.toString(16) })
        }))
      }))
    }
  }
}
