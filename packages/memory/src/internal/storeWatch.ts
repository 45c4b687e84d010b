/**
 * An open watch of the store: a position in the store's log, and nothing that grows.
 *
 * A watch without unread writes is idle and costs nothing. Otherwise it reads the log from its position when its
 * consumer takes. So a slow consumer does not delay others, and a watch that compaction has overtaken fails.
 */
import type { KeyRange } from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import type * as Watch from "@effect-kv/core/Watch"
import { isArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import * as Option from "effect/Option"
import { matchesKind, readEvents } from "./events.ts"
import { fromRange, type Interval } from "./interval.ts"
import type { IntervalMember } from "./intervalTree.ts"
import type { Mvcc } from "./mvcc.ts"
import type { Version } from "./version.ts"

const idle = -1

/** The next unread revisions, and the watch's position after them. */
export interface Unread {
  readonly revisions: NonEmptyReadonlyArray<Watch.Revision>
  readonly position: number
}

export class StoreWatch implements IntervalMember {
  readonly id: number
  readonly range: KeyRange
  readonly interval: Interval
  /** Everything after this revision is delivered. */
  readonly revision: bigint
  readonly #mvcc: Mvcc
  readonly #request: Watch.WatchRequest
  readonly #start: number
  /** The position of the first write that may be unread. */
  #position: number
  #ended: KvError.KvError | undefined = undefined
  /** Called once, when there may be unread revisions or the watch has ended. */
  #onUnread: (() => void) | undefined = undefined
  /** Called when the watch has ended. */
  #onEnded: Set<() => void> | undefined = undefined

  constructor(id: number, mvcc: Mvcc, request: Watch.WatchRequest) {
    this.id = id
    this.range = request.range
    this.interval = fromRange(request.range)
    this.revision = request.startRevision === undefined ? mvcc.revisionId : request.startRevision - 1n
    this.#mvcc = mvcc
    this.#request = request
    this.#start = Number(this.revision) + 1
    this.#position = idle
    if (this.#start <= mvcc.compacted) this.#ended = compacted(mvcc)
    else this.#moveTo(mvcc.positionOf(this.#start))
  }

  /** Why the watch has ended; `undefined` if it is open. */
  failure(): KvError.KvError | undefined {
    if (this.#position !== idle && this.#position < this.#mvcc.log.first) this.end(compacted(this.#mvcc))
    return this.#ended
  }

  /** Notifies the watch of a write to one of its keys. */
  offer(version: Version, position: number): void {
    if (this.#position !== idle || version.revision < this.#start || !matchesKind(this.#request, version)) return
    this.#position = position
    this.#wake()
  }

  /** The next unread revisions, if there are any. Does not advance the watch: `read` does. */
  unread(): Unread | undefined {
    if (this.#position === idle) return undefined
    const { revisions, position } = readEvents(this.#mvcc.log, this.#position, this.interval, this.#request)
    if (isArrayNonEmpty(revisions)) return { revisions, position }
    this.#moveTo(position)
    return undefined
  }

  /** Advances the watch past these revisions and returns them. */
  read(unread: Unread): NonEmptyReadonlyArray<Watch.Revision> {
    this.#moveTo(unread.position)
    return unread.revisions
  }

  /**
   * Calls `f` once, when there may be unread revisions or the watch has ended. Returns the function that cancels that.
   */
  onUnread(f: () => void): () => void {
    this.#onUnread = f
    if (this.#position !== idle || this.#ended !== undefined) this.#wake()
    return () => {
      this.#onUnread = undefined
    }
  }

  /** Calls `f` when the watch has ended. Returns the function that cancels that. */
  onEnded(f: () => void): () => void {
    if (this.#ended !== undefined) {
      f()
      return () => {}
    }
    const callbacks = this.#onEnded ??= new Set()
    callbacks.add(f)
    return () => {
      callbacks.delete(f)
    }
  }

  end(error: KvError.KvError): void {
    if (this.#ended !== undefined) return
    this.#ended = error
    this.#wake()
    this.#onEnded?.forEach((f) => f())
  }

  #moveTo(position: number): void {
    this.#position = position === this.#mvcc.log.end ? idle : position
  }

  #wake(): void {
    const f = this.#onUnread
    this.#onUnread = undefined
    f?.()
  }
}

const compacted = (mvcc: Mvcc): KvError.KvError =>
  KvError.make(new KvError.Compacted({ compactRevision: Option.some(BigInt(mvcc.compacted)) }))
