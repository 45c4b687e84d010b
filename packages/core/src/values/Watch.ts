/**
 * Watches as values: the request, the events of each revision, and the `Watcher` that a backend returns.
 *
 * Applications use `kv.watch` and `kv.subscribe`.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import * as json from "../internal/values/json.ts"
import type { Entry } from "./Entry.ts"
import type * as KeyRange from "./KeyRange.ts"
import type { KvError } from "./KvError.ts"

/**
 * What to watch.
 *
 * @since 0.1.0
 */
export interface WatchRequest {
  /** The keys to watch. */
  readonly range: KeyRange.KeyRange
  /** The first revision to deliver, in the past or in the future. Default: the next one. */
  readonly startRevision?: bigint | undefined
  /** Deliver each event with the entry before it, if history still holds that. Default: false. */
  readonly previous?: boolean | undefined
  /** Only events of this kind. Default: both. */
  readonly only?: "Put" | "Delete" | undefined
}

/**
 * A key was written.
 *
 * @since 0.1.0
 */
export interface PutEvent {
  readonly _tag: "Put"
  readonly key: string
  /** The revision of the write. */
  readonly revision: bigint
  /** The entry that was written. */
  readonly entry: Entry
  /** Whether the key did not exist before. */
  readonly isCreate: boolean
  /** The entry before the write, if it was requested, there was one, and history still holds it. */
  readonly previous: Option.Option<Entry>
}

/**
 * A key was deleted, by a delete or with its lease.
 *
 * @since 0.1.0
 */
export interface DeleteEvent {
  readonly _tag: "Delete"
  readonly key: string
  /** The revision of the delete. */
  readonly revision: bigint
  /** The deleted entry, if it was requested and history still holds it. */
  readonly previous: Option.Option<Entry>
}

/**
 * A change of one key.
 *
 * @since 0.1.0
 */
export type Event = PutEvent | DeleteEvent

/**
 * All the watched events of one revision, in the order they were made.
 *
 * @since 0.1.0
 */
export interface Revision {
  readonly revision: bigint
  readonly events: NonEmptyReadonlyArray<Event>
}

/**
 * The state of a watch. `Live`: connected. `Interrupted`: its connection was lost and is being restored.
 *
 * @since 0.1.0
 */
export type Status =
  | { readonly _tag: "Live"; readonly revision: bigint }
  | { readonly _tag: "Interrupted"; readonly message: string }

/**
 * An open watch.
 *
 * @since 0.1.0
 */
export interface Watcher {
  /** Every event after this revision is delivered: the store's revision at the confirmation, or `startRevision - 1`. */
  readonly revision: bigint
  /**
   * Waits for the next revisions: complete, ascending, without duplicates and without gaps, whatever happens to the
   * connection. Fails with `Compacted` if history was compacted, and with `Closed` after the client was closed. Must
   * not be run again before it has completed.
   */
  readonly take: Effect.Effect<NonEmptyReadonlyArray<Revision>, KvError>
  /** The state of the watch now, then each change. */
  readonly status: Stream.Stream<Status>
}

/** Events and revisions are classes because of `toJSON`: JSON has no bigints. */
class PutRecord implements PutEvent {
  readonly _tag = "Put" as const
  readonly key: string
  readonly revision: bigint
  readonly entry: Entry
  readonly isCreate: boolean
  readonly previous: Option.Option<Entry>

  constructor(fields: Omit<PutEvent, "_tag">) {
    this.key = fields.key
    this.revision = fields.revision
    this.entry = fields.entry
    this.isCreate = fields.isCreate
    this.previous = fields.previous
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

class DeleteRecord implements DeleteEvent {
  readonly _tag = "Delete" as const
  readonly key: string
  readonly revision: bigint
  readonly previous: Option.Option<Entry>

  constructor(fields: Omit<DeleteEvent, "_tag">) {
    this.key = fields.key
    this.revision = fields.revision
    this.previous = fields.previous
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

class RevisionRecord implements Revision {
  readonly revision: bigint
  readonly events: NonEmptyReadonlyArray<Event>

  constructor(revision: bigint, events: NonEmptyReadonlyArray<Event>) {
    this.revision = revision
    this.events = events
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

class LiveRecord {
  readonly _tag = "Live" as const
  readonly revision: bigint

  constructor(revision: bigint) {
    this.revision = revision
  }

  toJSON(): unknown {
    return json.fieldsOf(this)
  }
}

/**
 * Makes the event of a write. For backends.
 *
 * @example
 * ```ts
 * import { Entry, Watch } from "@effect-kv/core"
 * import { Option } from "effect"
 *
 * const entry = Entry.make({ key: "a", value: "1", createRevision: 7n, modRevision: 7n, version: 1, lease: Option.none() })
 * Watch.putEvent({ key: "a", revision: 7n, entry, isCreate: true, previous: Option.none() })._tag // => "Put"
 * ```
 *
 * @since 0.1.0
 */
export const putEvent = (fields: Omit<PutEvent, "_tag">): PutEvent => new PutRecord(fields)

/**
 * Makes the event of a delete. For backends.
 *
 * @example
 * ```ts
 * import { Watch } from "@effect-kv/core"
 * import { Option } from "effect"
 *
 * Watch.deleteEvent({ key: "a", revision: 7n, previous: Option.none() })._tag // => "Delete"
 * ```
 *
 * @since 0.1.0
 */
export const deleteEvent = (fields: Omit<DeleteEvent, "_tag">): DeleteEvent => new DeleteRecord(fields)

/**
 * Makes a revision. For backends.
 *
 * @example
 * ```ts
 * import { Watch } from "@effect-kv/core"
 * import { Option } from "effect"
 *
 * const event = Watch.deleteEvent({ key: "a", revision: 7n, previous: Option.none() })
 * Watch.revision(7n, [event]).events.length // => 1
 * ```
 *
 * @since 0.1.0
 */
export const revision = (revision: bigint, events: NonEmptyReadonlyArray<Event>): Revision =>
  new RevisionRecord(revision, events)

/**
 * Makes the status of a watch that is connected. For backends.
 *
 * @example
 * ```ts
 * import { Watch } from "@effect-kv/core"
 *
 * Watch.live(7n)._tag // => "Live"
 * ```
 *
 * @since 0.1.0
 */
export const live = (revision: bigint): Status => new LiveRecord(revision)
