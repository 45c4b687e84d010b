/**
 * The events of a range of keys, as they happen or from a revision in the past.
 *
 * This module is the model: what is asked for (`WatchRequest`), what comes (each `Event` in the `Revision` that made it), and what
 * a backend answers with (`Watcher`). Applications use `kv.watch` and `kv.subscribe`.
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import * as json from "../internal/values/json.ts"
import type { Entry } from "./Entry.ts"
import type * as KeyRange from "./KeyRange.ts"
import type { KvError } from "./KvError.ts"

/** What to watch. */
export interface WatchRequest {
  readonly range: KeyRange.KeyRange
  /** The first revision wanted; it may be in the past or in the future. Default: what happens from now on. */
  readonly startRevision?: bigint | undefined
  /** Give with each event the entry that was there before, where history still holds it. Default: false. */
  readonly previous?: boolean | undefined
  /** Only events of this kind. Default: both. */
  readonly only?: "Put" | "Delete" | undefined
}

/** A key was written. */
export interface PutEvent {
  readonly _tag: "Put"
  readonly key: string
  /** The revision of the write. */
  readonly revision: bigint
  readonly entry: Entry
  /** Whether the key did not exist before. */
  readonly isCreate: boolean
  /** The entry before the write: only if it was asked for, there was one, and history still holds it. */
  readonly previous: Option.Option<Entry>
}

/** A key was deleted, by a delete or with its lease. */
export interface DeleteEvent {
  readonly _tag: "Delete"
  readonly key: string
  /** The revision of the delete. */
  readonly revision: bigint
  /** The entry that was deleted: only if it was asked for and history still holds it. */
  readonly previous: Option.Option<Entry>
}

/** A change of one key. */
export type Event = PutEvent | DeleteEvent

/** All the watched events of one revision, in the order they were made. */
export interface Revision {
  readonly revision: bigint
  readonly events: NonEmptyReadonlyArray<Event>
}

/** How a watch is doing. `Live`: connected. `Interrupted`: its connection was lost and is being restored. */
export type Status =
  | { readonly _tag: "Live"; readonly revision: bigint }
  | { readonly _tag: "Interrupted"; readonly message: string }

/** An open watch. */
export interface Watcher {
  /** Everything after this revision is delivered: the store's when it confirmed, or the one before `startRevision`. */
  readonly revision: bigint
  /**
   * Waits for the next revisions: complete, ascending, none twice and none left out, whatever happens to the
   * connection. Fails with `Compacted` where history is gone, and with `Closed` after the client was closed. Not to be
   * called again before it has answered.
   */
  readonly take: Effect.Effect<NonEmptyReadonlyArray<Revision>, KvError>
  /** How the watch is doing: its state now, then each change. */
  readonly status: Stream.Stream<Status>
}

/** Events and revisions are classes for their `toJSON` alone: JSON has no bigints. */
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

/** Makes the event of a write. For backends. */
export const putEvent = (fields: Omit<PutEvent, "_tag">): PutEvent => new PutRecord(fields)

/** Makes the event of a delete. For backends. */
export const deleteEvent = (fields: Omit<DeleteEvent, "_tag">): DeleteEvent => new DeleteRecord(fields)

/** Makes a revision. For backends. */
export const revision = (revision: bigint, events: NonEmptyReadonlyArray<Event>): Revision =>
  new RevisionRecord(revision, events)

/** Makes the status of a watch that is connected. For backends. */
export const live = (revision: bigint): Status => new LiveRecord(revision)
