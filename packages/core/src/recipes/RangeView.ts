/**
 * An always current view of a range in memory, for configuration and membership: read it without a round trip, and be
 * told when it changes.
 *
 * It keeps itself current by a watch, and recovers by itself when history was compacted while it was cut off: with one
 * consistent read of the whole range, between which and the watch nothing is missed. It shows one revision at a time.
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { Kv } from "../service/Kv.ts"
import type { Entry } from "../values/Entry.ts"
import type * as KeyRange from "../values/KeyRange.ts"
import type { KvError } from "../values/KvError.ts"

/** The entries of a range at one revision, by their keys. */
export interface Snapshot {
  readonly revision: bigint
  readonly entries: ReadonlyMap<string, Entry>
}

/**
 * A view of a range. Its reads, and those that wait for a change, fail when it is not kept current any more: with `Closed`
 * after its scope or the client was closed, with `PermissionDenied` when the permission was withdrawn.
 */
export interface RangeView {
  /** The entry of a key. */
  readonly get: (key: string) => Effect.Effect<Option.Option<Entry>, KvError>
  /** All entries, at one revision. */
  readonly snapshot: Effect.Effect<Snapshot, KvError>
  /** The snapshot now, then again after each change; one that is read slowly skips to the newest. */
  readonly changes: Stream.Stream<Snapshot, KvError>
  /**
   * The snapshots after the one with this revision, as soon as there is one: for what has been read by `snapshot` already.
   * A change between that read and this is not missed.
   */
  readonly changesAfter: (revision: bigint) => Stream.Stream<Snapshot, KvError>
  /** The first snapshot for which the predicate holds, from the one now. */
  readonly waitUntil: (predicate: (snapshot: Snapshot) => boolean) => Effect.Effect<Snapshot, KvError>
}

/** A view of the range, current when this returns, and kept so until the scope closes. */
export const make = (range: KeyRange.KeyRange): Effect.Effect<RangeView, KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => kv.view(range))
