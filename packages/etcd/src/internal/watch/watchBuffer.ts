/**
 * What a watch has received and its consumer has not yet taken: whole revisions, as they came, and their size.
 */
import type { WireEvent } from "./watchWire.ts"

/** A part of what was received. It begins and ends with a revision. */
export type Segment = ReadonlyArray<WireEvent>

/** How much a watch may hold for a consumer that does not take, and be behind beside those that are not. */
export interface Limits {
  /** Above this many bytes the watch is parked once the response that is being received is complete. */
  readonly park: number
  /** Above this many bytes it is parked though more fragments of the response are to come. */
  readonly parkWithinResponse: number
  /** At or below this many bytes a parked watch goes on. */
  readonly resume: number
  /** A watch that is so many revisions behind catches up on a stream apart: so many does etcd send at a time. */
  readonly farBehind: bigint
  /** It comes back when it is fewer behind than this. */
  readonly nearlyThere: bigint
}

/**
 * The server gives an unsynced watch up to 1000 revisions per response, and reads its whole backlog again each time a
 * watch is created: to park rarely and to keep a whole such response is far cheaper than to keep little. 4 MiB is also more
 * than a consumer that keeps up ever leaves in the buffer, since no message is larger than 2 MiB.
 */
export const defaultLimits: Limits = {
  park: 4 * 1024 * 1024,
  parkWithinResponse: 16 * 1024 * 1024,
  resume: 1024 * 1024,
  farBehind: 1000n,
  nearlyThere: 100n
}

/** At most so many events are given at once, unless one segment alone has more. */
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

  /** Removes the oldest segments, none if there are none. */
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
