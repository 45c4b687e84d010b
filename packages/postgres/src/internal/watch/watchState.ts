/**
 * The state of one watch: synchronous, without fibers or statements.
 *
 * A watch that has caught up with the client's feed gets its events from it, in a bounded buffer. One that has not reads
 * the log itself, when its consumer takes: because it starts in the past, because its buffer overflowed, or because it
 * needs the entries before its events, which the feed does not read.
 */
import type * as KvError from "@effect-kv/core/KvError"
import type * as Watch from "@effect-kv/core/Watch"
import { isReadonlyArrayNonEmpty, type NonEmptyReadonlyArray } from "effect/Array"
import { type Interval, intervalOf, isWithin } from "../bytes.ts"
import { compactedAt, type Item, kind, nOf } from "../items.ts"
import { type Change, changesOf, revisionsOf } from "./events.ts"

/** A buffer with more is dropped, and read again from the log when the consumer takes. */
const maxEvents = 1024
const maxBytes = 1024 * 1024

type Revisions = NonEmptyReadonlyArray<Watch.Revision>

export class WatchState {
  readonly request: Watch.WatchRequest
  readonly interval: Interval
  /** Every event after this revision is delivered. */
  readonly revision: bigint
  /** The first revision that may not have been delivered or buffered. */
  #next: bigint
  #buffer: Array<Change> = []
  #bytes = 0
  #hasCaughtUp = false
  #isParked = false
  #ended: KvError.KvError | undefined = undefined
  #wake: (() => void) | undefined = undefined
  readonly #onStatus = new Set<() => void>()
  #interruption: string | undefined = undefined

  constructor(request: Watch.WatchRequest, revision: bigint) {
    this.request = request
    this.interval = intervalOf(request.range)
    this.revision = revision
    this.#next = revision + 1n
  }

  get ended(): KvError.KvError | undefined {
    return this.#ended
  }

  /** The revision to read the log from; `undefined` if there is nothing to read. */
  get unread(): bigint | undefined {
    return this.#hasCaughtUp ? undefined : this.#next
  }

  /** Whether an event at this revision, if it is one of the watch, has yet to be delivered. */
  isAt(revision: bigint): boolean {
    return revision >= this.#next
  }

  /** Whether there are events that are not buffered: they are read from the log once the consumer takes. */
  get isParked(): boolean {
    return this.#isParked
  }

  /** The size of the events that were not taken yet. */
  get bufferedBytes(): number {
    return this.#bytes
  }

  /** Why no events arrive at present; `undefined` if they do. */
  get interruption(): string | undefined {
    return this.#interruption
  }

  end(error: KvError.KvError): void {
    if (this.#ended !== undefined) return
    this.#ended = error
    this.#buffer = []
    this.#bytes = 0
    this.#signal()
    this.#notifyStatus()
  }

  /** Sets why no events arrive at present. */
  interrupted(message: string | undefined): void {
    if (this.#interruption === message) return
    this.#interruption = message
    this.#notifyStatus()
  }

  /** Calls `f` once, when the status may have changed. Returns the function that cancels that. */
  onStatus(f: () => void): () => void {
    this.#onStatus.add(f)
    return () => this.#onStatus.delete(f)
  }

  /** Calls `f` once, when a take may have something to return. Returns the function that cancels that. */
  onUnread(f: () => void): () => void {
    this.#wake = f
    if (this.#ended !== undefined || this.#buffer.length > 0 || !this.#hasCaughtUp) this.#signal()
    return () => {
      this.#wake = undefined
    }
  }

  /** Takes what is buffered. */
  takeBuffered(): Revisions | undefined {
    const buffer = this.#buffer
    if (!isReadonlyArrayNonEmpty(buffer)) return undefined
    this.#buffer = []
    this.#bytes = 0
    return revisionsOf(buffer)
  }

  /**
   * Applies a page of the log. `feed` is the last revision that the feed has delivered. Until the feed has started it is
   * `undefined`; once it has, every watch reads the log again.
   */
  read(items: ReadonlyArray<Item>, feed: bigint | undefined): Revisions | undefined {
    const last = items[items.length - 1]!
    if (last[0] === kind.compacted) {
      this.end(compactedAt(nOf(last)))
      return undefined
    }
    const through = nOf(last)
    const changes = changesOf(items).filter((change) => change.revision >= this.#next)
    if (through >= this.#next) this.#next = through + 1n
    this.#hasCaughtUp = feed === undefined || through >= feed
    if (this.#hasCaughtUp) this.#isParked = false
    return isReadonlyArrayNonEmpty(changes) ? revisionsOf(changes) : undefined
  }

  /** Buffers the first page of the log. */
  prime(items: ReadonlyArray<Item>, feed: bigint | undefined): void {
    const last = items[items.length - 1]!
    if (last[0] === kind.compacted) return this.end(compactedAt(nOf(last)))
    this.#buffer = [...changesOf(items)]
    this.#bytes = this.#buffer.reduce((sum, { bytes }) => sum + bytes, 0)
    if (nOf(last) >= this.#next) this.#next = nOf(last) + 1n
    this.#hasCaughtUp = feed === undefined || nOf(last) >= feed
  }

  /** Begins with the feed, which delivers every event. */
  follow(): void {
    this.#hasCaughtUp = true
  }

  /** Delivers a change of the feed. */
  offer(change: Change): void {
    if (change.revision < this.#next || !this.#matches(change)) return
    if (!this.#hasCaughtUp) {
      this.#isParked = true
      return
    }
    if (this.request.previous === true) {
      this.#hasCaughtUp = false
      this.#isParked = true
      return this.#signal()
    }
    this.#buffer.push(change)
    this.#bytes += change.bytes
    if (this.#buffer.length <= maxEvents && this.#bytes <= maxBytes) return
    this.#next = this.#buffer[0]!.revision
    this.#buffer = []
    this.#bytes = 0
    this.#hasCaughtUp = false
    this.#isParked = true
    this.#signal()
  }

  /** The feed has delivered all changes up to a revision. */
  delivered(revision: bigint): void {
    if (!this.#hasCaughtUp) return
    if (this.#buffer.length > 0) this.#signal()
    if (revision >= this.#next) this.#next = revision + 1n
  }

  /** The feed has passed a revision without reading the keys of this watch. */
  notRead(revision: bigint): void {
    if (this.#hasCaughtUp && this.#next <= revision) this.lost()
  }

  /** The feed has lost its place: what it did not deliver must be read from the log. */
  lost(): void {
    this.#hasCaughtUp = false
    this.#signal()
  }

  #matches(change: Change): boolean {
    return isWithin(this.interval, change.key) &&
      (this.request.only === undefined || this.request.only === change.event._tag)
  }

  #notifyStatus(): void {
    const waiting = Array.from(this.#onStatus)
    this.#onStatus.clear()
    for (const f of waiting) f()
  }

  #signal(): void {
    const f = this.#wake
    this.#wake = undefined
    f?.()
  }
}
