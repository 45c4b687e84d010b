/**
 * One watch: which states it has, what can happen to it in each, and from where it goes on.
 *
 * ```text
 *            attach                 created                     too much buffered
 *  Waiting ----------> Creating ---------------> Live ------------------------------> Parked
 *     ^                  |  ^ |                    |                                     |
 *     |   stream lost    |  |_| history needed     |  stream lost                        |  consumer has drained
 *     |   or other lane  |                         |  or other lane                      |
 *     +------------------+-------------------------+                                     |
 *     +----------------------------------------------------------------------------------+
 *
 *  any state -> Ended: refused, compacted, undecodable, closed by its scope or by the client
 * ```
 *
 * All of it is synchronous and knows neither fibers nor sockets: streams, the consumer's waiting and time are outside.
 *
 * **Where a watch goes on.** `next` is the first revision that is not completely received. It moves
 * - past the header's revision when a watch that starts "now" is created,
 * - past the last event of a response that is complete (`fragment` false),
 * - to the last event's revision in a fragment: etcd sends a watch's events in the order of their revisions, so the
 *   revisions before it are complete, and it alone may go on in the next fragment; its events are held back until then,
 * - past the revision of a progress notification for this watch, which is sent through the same queue as the watch's events
 *   and only while the watch is synced; or of an answer to a progress request (id -1, for all watches of a stream that
 *   were live when it was asked for), which is requested only where it does not overtake events: see `watchProgress.ts`.
 *
 * What comes below `next` is dropped, whatever the server sends.
 *
 * **Compaction.** A watch from revision r is refused when the compact revision is above r. At r itself it is accepted, but a
 * delete made in revision r is gone (before etcd 3.5.18), which would be a silent gap. So a watch that needs history
 * asks from r - 1, and what that gives twice is dropped: as the contract has it, a watch starts after the compact revision.
 */
import * as KvError from "@effect-kv/core/KvError"
import { live, type Revision, type Status, type WatchRequest } from "@effect-kv/core/Watch"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Option from "effect/Option"
import { type Limits, type Segment, WatchBuffer } from "./watchBuffer.ts"
import * as watchEvents from "./watchEvents.ts"
import type { Response, WireEvent } from "./watchWire.ts"

/** The stream that a watch is on, as the watch sees it. */
export interface Carrier {
  readonly lane: Lane
  readonly endpoint: string
  /** Asks the server for the watch from a revision on, `0n` for now. Gives the id that it has on this stream. */
  readonly create: (watch: WatchState, from: bigint) => number
  /** Takes the watch with this id off the stream, here and on the server. Nothing of it is heard of any more. */
  readonly cancel: (id: number) => void
  readonly known: Known
}

/**
 * Which stream a watch belongs on. Nothing else moves on a stream while a large response is sent and received, so watches
 * are kept apart by how large their responses may be.
 *
 * - `key`: of a single key, which has one event in a revision. Locks wait on these.
 * - `range`: of a range, where one delete can make hundreds of thousands of events in a revision.
 * - `catchUp`: far behind. etcd sends it 1000 revisions at a time, however large they are.
 * - `large`: a response was larger than the other streams take.
 */
export type Lane = "key" | "range" | "catchUp" | "large"

/** What is known of the store. */
export interface Known {
  /** The highest revision that it is known to have had. */
  revision: bigint
}

export type State =
  | { readonly _tag: "Waiting" }
  | { readonly _tag: "Creating"; readonly carrier: Carrier; readonly id: number; readonly from: bigint }
  | { readonly _tag: "Live"; readonly carrier: Carrier; readonly id: number }
  | { readonly _tag: "Parked" }
  | { readonly _tag: "Ended"; readonly error: KvError.KvError }

const waiting: State = { _tag: "Waiting" }
const parked: State = { _tag: "Parked" }

export class WatchState {
  readonly request: WatchRequest
  readonly limits: Limits
  /** Called when the watch wants to be attached to a stream. */
  readonly wantCarrier: (watch: WatchState) => void

  state: State = waiting
  /** The first revision that is not completely received, `undefined` until it is known what "now" is. */
  next: bigint | undefined
  /** What is delivered is after this revision; known once the store has confirmed the watch. */
  revision: bigint | undefined
  /** Whether a response for it may be larger than ordinary streams take. */
  isLarge = false
  /** Why the watch has no connection, where it had one before. */
  interrupted: string | undefined
  /** Wakes whoever waits for the watch to be confirmed. */
  onConfirmed: (() => void) | undefined
  /** Wakes whoever waits for something to take. */
  onReady: (() => void) | undefined
  readonly statusListeners: Set<(status: Status | undefined) => void> = new Set()

  readonly #buffer = new WatchBuffer()
  /** What was taken from the buffer and is not decoded yet. */
  #decoding: watchEvents.Decoding | undefined
  /** Events of the revision that goes on in the next fragment. */
  #held: Array<WireEvent> = []

  constructor(request: WatchRequest, limits: Limits, wantCarrier: (watch: WatchState) => void) {
    this.request = request
    this.limits = limits
    this.wantCarrier = wantCarrier
    this.next = request.startRevision
  }

  get bufferedBytes(): number {
    return this.#buffer.bytes
  }

  /** Whether there is something to poll for, though one poll may not be enough. */
  get canPoll(): boolean {
    return this.#decoding !== undefined || !this.#buffer.isEmpty || this.state._tag === "Ended"
  }

  get status(): Status | undefined {
    if (this.state._tag === "Ended") return undefined
    return this.interrupted === undefined
      ? live(this.next === undefined ? 0n : this.next - 1n)
      : { _tag: "Interrupted", message: this.interrupted }
  }

  // ---------------------------------------------------------------------------
  // what a stream does to it
  // ---------------------------------------------------------------------------

  attach(carrier: Carrier): void {
    if (this.state._tag !== "Waiting") return
    const { known } = carrier
    // The store confirms at once what starts now, and what is to be waited for is only that.
    const isProbe = this.revision === undefined && this.#isFarBehind(known.revision)
    this.#create(carrier, isProbe ? 0n : this.#from(known.revision))
  }

  /** The store has confirmed the watch, at the revision that it had then. */
  created(headerRevision: bigint): void {
    if (this.state._tag !== "Creating") return
    const { carrier, from, id } = this.state
    if (this.next === undefined) {
      this.next = headerRevision + 1n
    } else if (carrier.lane === this.#usualLane && this.#isFarBehind(headerRevision)) {
      this.#leave(carrier, id)
      return
    } else if ((from === 0n || from !== this.next - 1n) && from !== this.#from(headerRevision)) {
      carrier.cancel(id)
      this.#create(carrier, this.#from(headerRevision))
      return
    }
    this.state = { _tag: "Live", carrier, id }
    this.#confirmed(this.next - 1n)
    if (this.isLarge && this.next > headerRevision) this.progressed(headerRevision)
  }

  received({ events, fragment, header }: Response): void {
    if (this.state._tag !== "Live" || this.next === undefined) return
    const start = watchEvents.indexOfRevision(events, this.next)
    const fresh = start === 0 ? events : events.slice(start)
    if (fresh.length === 0) return
    if (fragment) this.#receiveFragment(fresh)
    else this.#receiveWhole(fresh)
    if (!this.#buffer.isEmpty) this.#wake()
    // One that catches up would be sent too large a response again.
    if (!fragment && !this.isBehind(header.revision)) this.isLarge = false
    // Only now: who waits for events has taken them, and may have closed the watch.
    this.#parkIfFull(fragment)
    if (!fragment) this.#goLive(header.revision)
  }

  /** Everything up to the revision has been sent. */
  progressed(revision: bigint): void {
    // While a response is not complete it says nothing of what is to come yet, whatever a server or a proxy sends between.
    if (this.state._tag !== "Live" || this.next === undefined || this.#held.length > 0) return
    if (revision >= this.next) this.next = revision + 1n
    this.isLarge = false
    this.#goLive(revision)
  }

  /** The stream is gone, and with it the watch on the server. */
  lost(message: string): void {
    if (this.state._tag !== "Creating" && this.state._tag !== "Live") return
    this.state = waiting
    this.#held = []
    if (this.revision !== undefined) this.#setInterrupted(message)
  }

  /** There was no stream to be had. */
  stillWaiting(message: string): void {
    if (this.state._tag === "Waiting" && this.revision !== undefined) this.#setInterrupted(message)
  }

  /** The store was replaced. A watch that goes on from a revision of the old one has nothing to go on from. */
  storeReplaced(error: KvError.KvError): void {
    if (this.next === undefined) this.lost(error.reason.message)
    else this.end(error)
  }

  /** The server has dropped the watch: history before the revision is gone. */
  compacted(compactRevision: bigint): void {
    this.end(KvError.make(new KvError.Compacted({ compactRevision: Option.some(compactRevision) })))
  }

  // ---------------------------------------------------------------------------
  // what its consumer does to it
  // ---------------------------------------------------------------------------

  /**
   * What there is to take, else the error that the watch ended with, else `undefined`. Of a large revision each poll decodes
   * a part, and all but the last return `undefined`.
   */
  poll(): NonEmptyReadonlyArray<Revision> | KvError.KvError | undefined {
    const decoding = this.#decoding ?? this.#startDecoding(this.#buffer.take())
    if (decoding === undefined) return this.state._tag === "Ended" ? this.state.error : undefined
    const decoded = decoding.next()
    this.#decoding = decoded === undefined ? decoding : undefined
    if (decoded === undefined) return undefined
    const { batches, error } = decoded
    if (error !== undefined) {
      this.#buffer.clear()
      this.end(error)
    } else if (this.state._tag === "Parked" && this.#buffer.bytes <= this.limits.resume) {
      this.state = waiting
      this.wantCarrier(this)
    }
    if (isNonEmpty(batches)) return batches
    return this.state._tag === "Ended" ? this.state.error : undefined
  }

  #startDecoding(segments: ReadonlyArray<Segment>): watchEvents.Decoding | undefined {
    return segments.length === 0 ? undefined : watchEvents.decode(segments)
  }

  /** Ends the watch, on the server too. What is in the buffer can still be taken. */
  end(error: KvError.KvError): void {
    if (this.state._tag === "Ended") return
    const before = this.state
    this.state = { _tag: "Ended", error }
    this.#held = []
    if (before._tag === "Creating" || before._tag === "Live") before.carrier.cancel(before.id)
    for (const listener of Array.from(this.statusListeners)) listener(undefined)
    this.statusListeners.clear()
    this.#wakeConfirmed()
    this.#wake()
  }

  /** Ends the watch and forgets what is in the buffer. */
  close(error: KvError.KvError): void {
    this.#buffer.clear()
    this.#decoding = undefined
    this.end(error)
  }

  // ---------------------------------------------------------------------------

  /**
   * Where it belongs, by what is known. All begin with the others, where an answer does not wait behind what is sent to those
   * that catch up.
   */
  lane(known: Known): Lane {
    if (this.isLarge) return "large"
    return this.revision !== undefined && this.#isFarBehind(known.revision) ? "catchUp" : this.#usualLane
  }

  get #usualLane(): Lane {
    return this.request.range._tag === "Key" ? "key" : "range"
  }

  /** Whether the store was at a revision that is some way ahead of what was received. */
  isBehind(revision: bigint): boolean {
    return this.next !== undefined && revision - this.next >= this.limits.nearlyThere
  }

  #isFarBehind(revision: bigint): boolean {
    return this.next !== undefined && revision - this.next >= this.limits.farBehind
  }

  /** Comes back to the others, once it has caught up with the store as it was at `revision`. */
  #goLive(revision: bigint): void {
    if (this.state._tag !== "Live" || this.state.carrier.lane === this.#usualLane) return
    const { carrier, id } = this.state
    const isNear = revision - this.next! < this.limits.nearlyThere && this.lane(carrier.known) === this.#usualLane
    if (carrier.lane === "large" ? !this.isLarge : isNear) this.#leave(carrier, id)
  }

  /** Goes to the other lane. */
  #leave(carrier: Carrier, id: number): void {
    carrier.cancel(id)
    this.state = waiting
    // Whatever comes after `next` will be given: there is nothing more to confirm.
    if (this.revision === undefined) this.#confirmed(this.next! - 1n)
    if (this.state._tag === "Waiting") this.wantCarrier(this)
  }

  /** From where to ask, where the store is at `revision`. */
  #from(revision: bigint): bigint {
    if (this.next === undefined) return 0n
    return this.next <= revision && this.next > 1n ? this.next - 1n : this.next
  }

  #create(carrier: Carrier, from: bigint): void {
    this.state = { _tag: "Creating", carrier, id: carrier.create(this, from), from }
  }

  #confirmed(revision: bigint): void {
    this.revision ??= revision
    if (this.interrupted !== undefined) {
      this.interrupted = undefined
      this.#notifyStatus()
    }
    this.#wakeConfirmed()
  }

  #receiveWhole(events: ReadonlyArray<WireEvent>): void {
    const all = this.#held.length === 0 ? events : [...this.#held, ...events]
    this.#held = []
    this.#push(all)
    this.next = BigInt(events[events.length - 1]!.kv.modRevision) + 1n
  }

  #receiveFragment(events: ReadonlyArray<WireEvent>): void {
    const all = this.#held.length === 0 ? [...events] : this.#held.concat(events)
    const complete = watchEvents.lastRevisionStart(all)
    this.#held = complete === 0 ? all : all.slice(complete)
    if (complete === 0) return
    this.#push(all.slice(0, complete))
    this.next = BigInt(this.#held[0]!.kv.modRevision)
  }

  #push(events: ReadonlyArray<WireEvent>): void {
    this.#buffer.push(events, watchEvents.sizeOf(events))
  }

  /** A full buffer costs the watch its place on the stream, not the stream its flow: others are on it. */
  #parkIfFull(fragment: boolean): void {
    if (this.state._tag !== "Live") return
    if (this.#buffer.bytes <= (fragment ? this.limits.parkWithinResponse : this.limits.park)) return
    this.state.carrier.cancel(this.state.id)
    this.state = parked
    this.#held = []
  }

  #setInterrupted(message: string): void {
    if (this.interrupted === message) return
    this.interrupted = message
    this.#notifyStatus()
  }

  #notifyStatus(): void {
    const status = this.status
    for (const listener of Array.from(this.statusListeners)) listener(status)
  }

  #wakeConfirmed(): void {
    const wake = this.onConfirmed
    this.onConfirmed = undefined
    wake?.()
  }

  #wake(): void {
    const wake = this.onReady
    this.onReady = undefined
    wake?.()
  }
}

const isNonEmpty = (batches: ReadonlyArray<Revision>): batches is NonEmptyReadonlyArray<Revision> => batches.length > 0
