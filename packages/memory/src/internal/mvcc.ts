/**
 * The store's data: every key at every revision that is not compacted, and the log of what changed.
 *
 * A read sees one revision. Writes are collected into one revision until `commit`. Nothing here knows of leases,
 * watches or limits.
 */
import type * as Entry from "@effect-kv/core/Entry"
import { compareKeys } from "@effect-kv/core/KeyRange"
import { Deque } from "./deque.ts"
import { contains, type Interval } from "./interval.ts"
import { currentVersion, KeySpace, versionAt } from "./keySpace.ts"
import { isPresent, type KeySlot, Version, weight } from "./version.ts"

/** How much history is kept. Older history is compacted after each write. */
export interface Retention {
  readonly revisions: number
  readonly bytes: number
}

/** The versions found in a range, ordered by key, and the number of keys in the range, whatever the limit. */
export interface Found {
  readonly versions: Array<Version>
  readonly count: number
}

/** The part of a range that is read. */
export interface ReadWindow {
  readonly limit: number
  /** Whether the range is read backwards, from its last key. */
  readonly descending: boolean
}

/** The whole range, from its first key. */
export const everything: ReadWindow = { limit: Number.POSITIVE_INFINITY, descending: false }

export class Mvcc {
  readonly #retention: Retention
  readonly #keys = new KeySpace()
  /** The writes since the compacted revision, including it, in the order they were made. */
  readonly log = new Deque<Version>()
  /** The position in the log up to which the versions before each write are forgotten. */
  #forgotten = 0
  #logBytes = 0
  #pending = false
  /** The last committed revision; 1 for the empty store. */
  revision = 1
  revisionId = 1n
  #nextId = 2n
  /** Reads below this revision fail. Watches can start after it. */
  compacted = 0

  constructor(retention: Retention) {
    this.#retention = retention
  }

  /** How many keys exist. */
  get size(): number {
    return this.#keys.present.size
  }

  /** How many keys exist or are in the history. */
  get known(): number {
    return this.#keys.known
  }

  get logBytes(): number {
    return this.#logBytes
  }

  /** The version of a key, now or at a revision. */
  get(key: string, at: number | undefined): Version | undefined {
    return at === undefined ? this.#keys.get(key) : this.#keys.getAt(key, at)
  }

  /** The versions in an interval, now or at a revision. */
  find(interval: Interval, at: number | undefined, window: ReadWindow): Found {
    return at === undefined || at === this.revision && !this.#pending
      ? this.#findNow(interval, window)
      : this.#findAt(interval, at, window)
  }

  /** The keys in an interval that exist now. */
  slots(interval: Interval): Array<KeySlot> {
    return this.#within(this.#ranks(interval), everything)
  }

  /** Writes a value and returns the version that it replaced. */
  put(key: string, value: Entry.Value, lease: bigint): Version | undefined {
    const slot = this.#keys.slot(key)
    const before = currentVersion(slot)
    this.#write(slot, value, lease)
    return before
  }

  /** Deletes a key that exists and returns its version. */
  delete(slot: KeySlot): Version {
    const before = slot.current!
    this.#write(slot, undefined, 0n)
    return before
  }

  /** Makes the writes since the last commit the next revision. Returns false if there were none. */
  commit(): boolean {
    if (!this.#pending) return false
    this.#pending = false
    this.revision++
    this.revisionId = this.#nextId
    this.#nextId++
    this.#retain()
    return true
  }

  /** Forgets the versions that no read at `revision` or later can see. */
  compact(revision: number): void {
    const log = this.log
    this.compacted = revision
    while (this.#forgotten < log.end && log.at(this.#forgotten).revision <= revision) {
      this.#keys.forgetBefore(log.at(this.#forgotten++))
    }
    // The writes of the revision itself stay in the log, so that a watch that has read up to it can continue.
    while (log.first < this.#forgotten && log.at(log.first).revision < revision) {
      this.#logBytes -= weight(log.at(log.first))
      log.dropFirst()
    }
  }

  /** The position in the log of the first write at a revision or later. */
  positionOf(revision: number): number {
    return this.log.firstWhere((version) => version.revision >= revision)
  }

  #write(slot: KeySlot, value: Entry.Value | undefined, lease: bigint): void {
    const version = new Version(slot, this.revision + 1, this.#nextId, slot.current, value, lease)
    this.#keys.add(version)
    this.log.push(version)
    this.#logBytes += weight(version)
    this.#pending = true
  }

  #retain(): void {
    const { bytes, revisions } = this.#retention
    if (this.revision - this.compacted > revisions) this.compact(this.revision - revisions)
    while (this.#logBytes > bytes && this.compacted < this.revision) this.compact(this.compacted + 1)
  }

  #findNow(interval: Interval, window: ReadWindow): Found {
    const ranks = this.#ranks(interval)
    return { versions: this.#within(ranks, window).map((slot) => slot.current!), count: ranks.to - ranks.from }
  }

  /** Its cost depends on the result and on the writes since the revision, not on the size of the range. */
  #findAt(interval: Interval, at: number, window: ReadWindow): Found {
    const ranks = this.#ranks(interval)
    const { gone, hidden } = this.#changesSince(interval, at)
    const versions = gone.slice()
    for (const slot of this.#within(ranks, { ...window, limit: window.limit + hidden })) {
      const version = versionAt(slot, at)
      if (version !== undefined) versions.push(version)
    }
    if (gone.length > 0) {
      versions.sort((a, b) => window.descending ? compareKeys(b.key, a.key) : compareKeys(a.key, b.key))
    }
    return { versions: versions.slice(0, window.limit), count: ranks.to - ranks.from - hidden + gone.length }
  }

  /**
   * The versions of keys that were deleted since a revision (`gone`), and the number of keys created since (`hidden`).
   */
  #changesSince(interval: Interval, at: number): { readonly gone: Array<Version>; readonly hidden: number } {
    const gone: Array<Version> = []
    let hidden = 0
    for (let position = this.positionOf(at + 1); position < this.log.end; position++) {
      const { previous, slot } = this.log.at(position)
      const isFirstSince = previous === undefined || previous.revision <= at
      if (!isFirstSince || !contains(interval, slot.key)) continue
      const existed = previous !== undefined && isPresent(previous)
      const exists = currentVersion(slot) !== undefined
      if (existed && !exists) gone.push(previous)
      if (exists && !existed) hidden++
    }
    return { gone, hidden }
  }

  #ranks(interval: Interval): Ranks {
    const index = this.#keys.present
    return {
      from: index.rank(interval.start),
      to: interval.end === undefined ? index.size : index.rank(interval.end)
    }
  }

  #within(ranks: Ranks, window: ReadWindow): Array<KeySlot> {
    const { from, to } = ranks
    return window.descending
      ? this.#keys.present.slice(Math.max(from, to - window.limit), to).reverse()
      : this.#keys.present.slice(from, Math.min(to, from + window.limit))
  }
}

interface Ranks {
  readonly from: number
  readonly to: number
}
