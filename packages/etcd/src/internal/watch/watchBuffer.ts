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
  farBehind: 1000n,
  nearlyThere: 100n
}

/** The maximum number of events per take, unless a single segment has more. */
const eventsPerTake = 4096

export class WatchBuffer {
  bytes = 0
  #segments: Array<Segment> = []
  #sizes: Array<number> = []
  #first = 0

  get isEmpty(): boolean {
    return this.#first === this.#segments.length
  }

  push(segment: Segment, bytes: number): void {
    this.#segments.push(segment)
    this.#sizes.push(bytes)
    this.bytes += bytes
  }

  /** Removes the oldest segments, if there are any. */
  take(): ReadonlyArray<Segment> {
    if (this.isEmpty) return []
    const from = this.#first
    let events = 0
    while (!this.isEmpty) {
      const size = this.#segments[this.#first]!.length
      if (events > 0 && events + size > eventsPerTake) break
      events += size
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
