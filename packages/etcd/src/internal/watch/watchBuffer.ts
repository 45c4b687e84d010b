/**
 * The buffer of a watch: whole revisions that were received and not yet taken, and their size.
 */
import type { WireEvent } from "./watchWire.ts"

/** A part of the received events. It begins and ends with a revision. */
export type Segment = ReadonlyArray<WireEvent>

/** Limits for the buffer of a watch whose consumer is slow, and for how far a watch may lag. */
export interface Limits {
  /** Above this many bytes the watch is parked once the current response is complete. */
  readonly park: number
  /** Above this many bytes the watch is parked even if more fragments of the response follow. */
  readonly parkWithinResponse: number
  /** At or below this many bytes a parked watch resumes. */
  readonly resume: number
  /**
   * The maximum number of bytes per take, unless a single revision has more. The consumer holds them, so they come on top
   * of what is buffered.
   */
  readonly take: number
  /** A watch that lags by this many revisions catches up on a separate stream. etcd sends this many per response. */
  readonly farBehind: bigint
  /** A watch that lags by fewer revisions than this leaves the separate stream. */
  readonly nearlyThere: bigint
}

/**
 * The server sends up to 1000 revisions per response to an unsynced watch, and reads the whole backlog each time a
 * watch is created. Parking rarely and keeping a whole response is therefore far cheaper than keeping little. 4 MiB is
 * more than a fast consumer ever leaves in the buffer, because no message is larger than 2 MiB.
 */
export const defaultLimits: Limits = {
  park: 4 * 1024 * 1024,
  parkWithinResponse: 16 * 1024 * 1024,
  resume: 1024 * 1024,
  take: 4 * 1024 * 1024,
  farBehind: 1000n,
  nearlyThere: 100n
}

/** The maximum number of events per take, unless a single segment has more. */
const eventsPerTake = 4096

export class WatchBuffer {
  bytes = 0
  readonly #most: number
  #segments: Array<Segment> = []
  #sizes: Array<number> = []
  #first = 0

  constructor({ take }: Pick<Limits, "take">) {
    this.#most = take
  }

  get isEmpty(): boolean {
    return this.#first === this.#segments.length
  }

  /**
   * Adds events, which begin and end with a revision. Those of a large response are separated, so that a consumer does not
   * take all of them at once.
   */
  push(events: ReadonlyArray<WireEvent>): void {
    let from = 0
    let bytes = 0
    /** Where the last revision begins, and the bytes before it. */
    let last = 0
    let before = 0
    for (let i = 0; i < events.length; i++) {
      if (i > 0 && events[i]!.kv.modRevision !== events[i - 1]!.kv.modRevision) {
        last = i
        before = bytes
      }
      bytes += sizeOf(events[i]!)
      if (bytes <= this.#most || last === from) continue
      this.#add(events.slice(from, last), before)
      from = last
      bytes -= before
      before = 0
    }
    this.#add(from === 0 ? events : events.slice(from), bytes)
  }

  #add(segment: Segment, bytes: number): void {
    this.#segments.push(segment)
    this.#sizes.push(bytes)
    this.bytes += bytes
  }

  /** Removes the oldest segments, if there are any. */
  take(): ReadonlyArray<Segment> {
    if (this.isEmpty) return []
    const from = this.#first
    let events = 0
    let bytes = 0
    while (!this.isEmpty) {
      events += this.#segments[this.#first]!.length
      bytes += this.#sizes[this.#first]!
      if (this.#first > from && (events > eventsPerTake || bytes > this.#most)) break
      this.bytes -= this.#sizes[this.#first]!
      this.#first++
    }
    const taken = this.#segments.slice(from, this.#first)
    if (this.isEmpty) {
      this.clear()
    } else if (this.#first > 64) {
      this.#segments = this.#segments.slice(this.#first)
      this.#sizes = this.#sizes.slice(this.#first)
      this.#first = 0
    }
    return taken
  }

  clear(): void {
    this.#segments = []
    this.#sizes = []
    this.#first = 0
    this.bytes = 0
  }
}

/** The approximate bytes that an event occupies in memory besides its key and values. */
const eventOverhead = 256

/** The approximate bytes that an event occupies in memory. */
const sizeOf = ({ kv, previous }: WireEvent): number => {
  const bytes = eventOverhead + kv.keyEnd - kv.keyStart + kv.valueEnd - kv.valueStart
  return previous === undefined ? bytes : bytes + previous.valueEnd - previous.valueStart + eventOverhead
}
