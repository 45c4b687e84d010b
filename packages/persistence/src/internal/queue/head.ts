/**
 * The head of a queue: the oldest places that can be taken, kept current by a watch and bounded in size.
 *
 * It knows everything that is due or ready up to its limits. What is behind is read when the head is used up, so the
 * length of the queue costs nothing.
 */
import type { Entry } from "@effect-kv/core/Entry"
import type { RangeResponse } from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as Option from "effect/Option"
import * as keysOf from "./keys.ts"

/** A place from which an item can be claimed. */
export interface Candidate extends keysOf.Marker {
  readonly id: string
  /** The key to delete, with its create revision as the condition. */
  readonly key: string
  readonly createRevision: bigint
  /** The worker whose claim it is, if that worker is gone. */
  readonly orphanOf: string | undefined
}

/** How many items of each kind are kept. */
const limit = 128

interface Part {
  readonly known: Map<string, Candidate>
  /** Whether the store may hold more than what is known, behind it. */
  hasMore: boolean
  /** How many keys are read at a time. */
  readLimit: number
}

export class Head {
  readonly #keys: keysOf.Keys
  readonly #ready: Part = { known: new Map(), hasMore: true, readLimit: limit }
  readonly #due: Part = { known: new Map(), hasMore: true, readLimit: limit }
  #revision = 0n
  /** Revisions that arrived while the head is read. */
  #arrived: Array<Watch.Revision> | undefined

  constructor(keys: keysOf.Keys) {
    this.#keys = keys
  }

  /** Whether a part is used up while the store may hold more. */
  get mustLoad(): boolean {
    return isUsedUp(this.#ready) || isUsedUp(this.#due)
  }

  /** Begins a read; how many keys of each kind to read. */
  startLoading(): { readonly due: number; readonly ready: number } {
    this.#arrived = []
    return { due: this.#due.readLimit, ready: this.#ready.readLimit }
  }

  /** Replaces the head by what was read at one revision, and applies what arrived meanwhile. */
  load(revision: bigint, due: RangeResponse, ready: RangeResponse): void {
    fill(this.#due, due)
    fill(this.#ready, ready)
    this.#revision = revision
    const arrived = this.#arrived ?? []
    this.#arrived = undefined
    this.apply(arrived)
  }

  /** Applies changes. Those that the last read has seen are skipped. */
  apply(revisions: ReadonlyArray<Watch.Revision>): void {
    if (this.#arrived !== undefined) {
      this.#arrived.push(...revisions)
      return
    }
    for (const { events, revision } of revisions) {
      if (revision <= this.#revision) continue
      this.#revision = revision
      for (const event of events) this.#applyEvent(event)
    }
  }

  #applyEvent(event: Watch.Event): void {
    const isDue = event.key.startsWith(`${this.#keys.root}head/due/`)
    const part = isDue ? this.#due : this.#ready
    if (event._tag === "Delete") {
      part.known.delete(event.key)
      return
    }
    const candidate = Option.getOrUndefined(candidateOf(event.entry))
    if (candidate === undefined) return
    if (isDue) {
      if (part.hasMore && !isBeforeLast(part, event.key)) return
      part.known.set(event.key, candidate)
      sortByKey(part)
    } else {
      // A new one is the youngest: it is behind the items that are not known.
      if (part.hasMore) return
      part.known.set(event.key, candidate)
    }
    if (part.known.size <= limit) return
    part.known.delete([...part.known.keys()].at(-1)!)
    part.hasMore = true
  }

  /** Takes up to `count` candidates out of the head. `where` is the part of the head to leave out: from 0 to 1. */
  pick(count: number, now: number, where: number): ReadonlyArray<Candidate> {
    const available: Array<Candidate> = []
    for (const [key, candidate] of this.#due.known) {
      if (keysOf.timeOfDue(this.#keys, key) > now) break
      available.push(candidate)
    }
    available.push(...this.#ready.known.values())
    const start = Math.floor(where * (1 + Math.max(0, available.length - count)))
    const picked = available.slice(start, start + count)
    for (const { key } of picked) {
      this.#due.known.delete(key)
      this.#ready.known.delete(key)
    }
    return picked
  }

  /** When the next item is due, in milliseconds; `none` if none is known. */
  get nextDue(): Option.Option<number> {
    const [first] = this.#due.known.keys()
    return Option.map(Option.fromUndefinedOr(first), (key) => keysOf.timeOfDue(this.#keys, key))
  }
}

const isUsedUp = ({ hasMore, known }: Part): boolean => hasMore && known.size === 0

/**
 * Keys that another program has written stay at the front. If a read has found nothing else, the next one reads twice as
 * many: it must not read the same keys again and again.
 */
const fill = (part: Part, response: RangeResponse): void => {
  part.known.clear()
  part.hasMore = response.more
  for (const entry of response.entries) {
    Option.map(candidateOf(entry), (candidate) => part.known.set(entry.key, candidate))
  }
  if (isUsedUp(part)) part.readLimit *= 2
}

/** `none` if another program has written the key. */
export const candidateOf = (entry: Entry, orphanOf?: string): Option.Option<Candidate> =>
  Option.map(keysOf.decodeMarker(entry.lossyText), (marker) => ({
    ...marker,
    place: marker.place === 0n ? entry.createRevision : marker.place,
    id: keysOf.idOf(entry.key),
    key: entry.key,
    createRevision: entry.createRevision,
    orphanOf
  }))

const isBeforeLast = ({ known }: Part, key: string): boolean => {
  const last = [...known.keys()].at(-1)
  return last !== undefined && key < last
}

/** Times and places have a fixed number of digits, so the order of strings is the order of times. */
const sortByKey = ({ known }: Part): void => {
  const sorted = [...known].toSorted(([a], [b]) => a < b ? -1 : 1)
  known.clear()
  for (const [key, candidate] of sorted) known.set(key, candidate)
}
