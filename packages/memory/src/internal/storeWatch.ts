/**
 * One watch: a position in the store's log, and nothing that grows.
 *
 * A watch that has been told of no unread write is idle and costs nothing. One that has reads on in the log, from its
 * position, when it is asked to: a slow consumer holds up nobody, and if compaction passes it, it fails.
 */
import type { KeyRange } from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import type * as Watch from "@effect-kv/core/Watch"
import { isArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import * as Option from "effect/Option"
import { matchesKind, readEvents } from "./events.ts"
import { fromRange, type Interval } from "./interval.ts"
import type { Member } from "./intervalTree.ts"
import type { Mvcc } from "./mvcc.ts"
import type { Version } from "./version.ts"

const idle = -1

/** What a watch has to read next, and where it stands when it has read it. */
export interface Unread {
  readonly revisions: NonEmptyReadonlyArray<Watch.Revision>
  readonly position: number
}

export class WatchState implements Member {
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
  /** To be called once, when there may be something to read or the watch has ended. */
  #onUnread: (() => void) | undefined = undefined
  /** To be called when the watch has ended. */
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

  /** Why it delivers nothing any more, if that is so. */
  failure(): KvError.KvError | undefined {
    if (this.#position !== idle && this.#position < this.#mvcc.log.first) this.end(compacted(this.#mvcc))
    return this.#ended
  }

  /** Tells of a write that matches. */
  offer(version: Version, position: number): void {
    if (this.#position !== idle || version.revision < this.#start || !matchesKind(this.#request, version)) return
    this.#position = position
    this.#wake()
  }

  /** The next unread revisions, if there are any; the watch does not move on before `read` is called. */
  unread(): Unread | undefined {
    if (this.#position === idle) return undefined
    const { revisions, position } = readEvents(this.#mvcc.log, this.#position, this.interval, this.#request)
    if (isArrayNonEmpty(revisions)) return { revisions, position }
    this.#moveTo(position)
    return undefined
  }

  read(unread: Unread): NonEmptyReadonlyArray<Watch.Revision> {
    this.#moveTo(unread.position)
    return unread.revisions
  }

  /** Calls back once, when there may be something to read or the watch has ended; answers with what takes it back. */
  onUnread(f: () => void): () => void {
    this.#onUnread = f
    if (this.#position !== idle || this.#ended !== undefined) this.#wake()
    return () => {
      this.#onUnread = undefined
    }
  }

  /** Calls back when the watch has ended; answers with what takes it back. */
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
