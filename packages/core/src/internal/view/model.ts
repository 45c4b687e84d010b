/**
 * Views of a range as values: the types that the `RangeView` module and its implementation share.
 */
import type * as DateTime from "effect/DateTime"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { Entry } from "../../values/Entry.ts"
import type { KvError } from "../../values/KvError.ts"

/**
 * The entries of a range at one revision, by their keys.
 *
 * @since 0.1.0
 */
export interface Snapshot {
  readonly revision: bigint
  readonly entries: ReadonlyMap<string, Entry>
}

/**
 * A view of a range.
 *
 * Its effects and streams fail once it is no longer kept current: with `Closed` after its scope or the client was
 * closed, with `PermissionDenied` if the permission was revoked.
 *
 * @since 0.1.0
 */
export interface RangeView {
  /** The entry of a key; `none` if the key does not exist. */
  readonly get: (key: string) => Effect.Effect<Option.Option<Entry>, KvError>
  /** All entries, at one revision. */
  readonly snapshot: Effect.Effect<Snapshot, KvError>
  /** The snapshot now, then one after each change. A slow reader skips to the newest. */
  readonly changes: Stream.Stream<Snapshot, KvError>
  /**
   * The snapshots after the one with this revision, as soon as there is one.
   *
   * **When to use**
   *
   * After `snapshot`: a change between that read and this one is not missed.
   */
  readonly changesAfter: (revision: bigint) => Stream.Stream<Snapshot, KvError>
  /** The first snapshot, from the current one on, for which the predicate holds. */
  readonly waitUntil: (predicate: (snapshot: Snapshot) => boolean) => Effect.Effect<Snapshot, KvError>
  /**
   * Since when the view may miss changes because it is cut off from the store; `none` while it is current. The present
   * state, then each change.
   *
   * **Details**
   *
   * The time is that at which this client noticed the cut, by its clock. The view is current again once it has reached
   * the state in which it found the store after the cut.
   */
  readonly staleSince: Stream.Stream<Option.Option<DateTime.Utc>, KvError>
}
