/**
 * The state machine of one watch: its states, their transitions, and the revision at which it resumes.
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
 *  any state -> Ended: rejected, compacted, undecodable, closed by its scope or by the client
 * ```
 *
 * The machine is synchronous. Fibers, sockets and time are outside.
 *
 * **Where a watch resumes.** `next` is the first revision that is not completely received. It moves
 * - past the header's revision when a watch that starts "now" is created,
 * - past the last event of a complete response (`fragment` false),
 * - to the revision of a fragment's last event. etcd sends a watch's events in revision order, so all earlier revisions
 *   are complete. The last one may continue in the next fragment, so its events are held back until then,
 * - past the revision of a progress notification for this watch. The server queues it with the watch's events, and
 *   sends it only while the watch is synced. The same holds for a progress response (id -1, for all watches that were
 *   live at the request). The client requests it only from servers where it cannot overtake events: see
 *   `watchProgress.ts`.
 *
 * Events below `next` are dropped, whatever the server sends.
 *
 * **Compaction.** The server rejects a watch from revision r if the compact revision is above r. At r itself it accepts
 * the watch, but before etcd 3.5.18 it omits a delete made in revision r: a silent gap. So a watch that needs history
 * requests it from r - 1 and drops the repeated revision. By the contract, a watch must start after the compact
 * revision.
 */
import * as KvError from "@effect-kv/core/KvError"
import { live, type Revision, type Status, type WatchRequest } from "@effect-kv/core/Watch"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Option from "effect/Option"
import { type Limits, type Segment, WatchBuffer } from "./watchBuffer.ts"
import * as watchEvents from "./watchEvents.ts"
import type { Response, WireEvent } from "./watchWire.ts"

/** The stream of a watch, as the watch sees it. */
export interface Carrier {
  readonly lane: Lane
  readonly endpoint: string
  /** Requests the watch from a revision on, `0n` for now. Returns the watch's id on this stream. */
  readonly create: (watch: WatchState, from: bigint) => number
  /** Removes the watch with this id from the stream, also on the server. Nothing more is delivered to it. */
  readonly cancel: (id: number) => void
  readonly known: Known
}

/**
 * The kind of stream for a watch. A large response blocks its stream while it is sent and received, so watches are
 * separated by the possible size of their responses.
 *
 * - `key`: watches of a single key, which has one event in a revision. Locks wait on these.
 * - `range`: watches of a range. One delete can create hundreds of thousands of events in a revision.
 * - `catchUp`: watches that are far behind. etcd sends them 1000 revisions at a time, of any size.
 * - `large`: watches with a response above the limit of the other streams.
 */
export type Lane = "key" | "range" | "catchUp" | "large"

/** What is known about the store. */
export interface Known {
  /** The store's highest known revision. */
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
  /** Called when the watch needs a stream. */
  readonly wantCarrier: (watch: WatchState) => void

  state: State = waiting
  /** The first revision that is not completely received. `undefined` until the start is known. */
  next: bigint | undefined
  /** The watch delivers the events after this revision. Known once the store has confirmed the watch. */
  revision: bigint | undefined
  /** Whether a response may exceed the limit of ordinary streams. */
  isLarge = false
  /** Why the watch has lost its connection, if it had one. */
  interrupted: string | undefined
  /** Wakes the caller that waits for the watch's confirmation. */
  onConfirmed: (() => void) | undefined
  /** Wakes the caller that waits for events. */
  onReady: (() => void) | undefined
  readonly statusListeners: Set<(status: Status | undefined) => void> = new Set()

  readonly #buffer: WatchBuffer
  /** The decoding of the segments that were taken from the buffer. */
  #decoding: watchEvents.Decoding | undefined
  /** Events of the revision that continues in the next fragment. */
  #held: Array<WireEvent> = []

  constructor(request: WatchRequest, limits: Limits, wantCarrier: (watch: WatchState) => void) {
    this.request = request
    this.limits = limits
    this.#buffer = new WatchBuffer(limits)
    this.wantCarrier = wantCarrier
    this.next = request.startRevision
  }

  get bufferedBytes(): number {
    return this.#buffer.bytes
  }

  /** Whether polling makes sense. One poll may not be enough. */
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
  // events of its stream
  // ---------------------------------------------------------------------------

  attach(carrier: Carrier): void {
    if (this.state._tag !== "Waiting") return
    const { known } = carrier
    // The store confirms a watch from now at once, and the caller waits only for that.
    const isProbe = this.revision === undefined && this.#isFarBehind(known.revision)
    this.#create(carrier, isProbe ? 0n : this.#from(known.revision))
  }

  /** Reports that the store has confirmed the watch, at its current revision. */
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
    // A watch that still catches up would get another response that is too large.
    if (!fragment && !this.isBehind(header.revision)) this.isLarge = false
    // Only now: the waiting consumer has taken the events, and may have closed the watch.
    this.#parkIfFull(fragment)
    if (!fragment) this.#goLive(header.revision)
  }

  /** Reports that everything up to the revision has been sent. */
  progressed(revision: bigint): void {
    // Within an incomplete response this proves nothing, whatever a server or a proxy sends in between.
    if (this.state._tag !== "Live" || this.next === undefined || this.#held.length > 0) return
    if (revision >= this.next) this.next = revision + 1n
    this.isLarge = false
    this.#goLive(revision)
  }

  /** Reports that the stream is gone, and with it the watch on the server. */
  lost(message: string): void {
    if (this.state._tag !== "Creating" && this.state._tag !== "Live") return
    this.state = waiting
    this.#held = []
    if (this.revision !== undefined) this.#setInterrupted(message)
  }

  /** Reports that no stream could be opened. */
  stillWaiting(message: string): void {
    if (this.state._tag === "Waiting" && this.revision !== undefined) this.#setInterrupted(message)
  }

  /** Reports a replaced store. A watch that would resume at a revision of the old store cannot continue. */
  storeReplaced(error: KvError.KvError): void {
    if (this.next === undefined) this.lost(error.reason.message)
    else this.end(error)
  }

  /** Reports that the server has dropped the watch, because history before the revision is compacted. */
  compacted(compactRevision: bigint): void {
    this.end(KvError.make(new KvError.Compacted({ compactRevision: Option.some(compactRevision) })))
  }

  // ---------------------------------------------------------------------------
  // the consumer
  // ---------------------------------------------------------------------------

  /**
   * The revisions to take, or the error with which the watch ended, or `undefined`. Each poll decodes a part of a large
   * revision, and every poll before the last one returns `undefined`.
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

  /** Ends the watch, also on the server. The buffer can still be taken. */
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

  /** Ends the watch and clears the buffer. */
  close(error: KvError.KvError): void {
    this.#buffer.clear()
    this.#decoding = undefined
    this.end(error)
  }

  // ---------------------------------------------------------------------------

  /**
   * The lane for the watch, by what is known. Every watch starts in its usual lane, where its confirmation does not
   * wait behind the data of watches that catch up.
   */
  lane(known: Known): Lane {
    if (this.isLarge) return "large"
    return this.revision !== undefined && this.#isFarBehind(known.revision) ? "catchUp" : this.#usualLane
  }

  get #usualLane(): Lane {
    return this.request.range._tag === "Key" ? "key" : "range"
  }

  /** Whether the watch lags behind the store's revision noticeably. */
  isBehind(revision: bigint): boolean {
    return this.next !== undefined && revision - this.next >= this.limits.nearlyThere
  }

  #isFarBehind(revision: bigint): boolean {
    return this.next !== undefined && revision - this.next >= this.limits.farBehind
  }

  /** Returns to the usual lane, once the watch has caught up with the store's `revision`. */
  #goLive(revision: bigint): void {
    if (this.state._tag !== "Live" || this.state.carrier.lane === this.#usualLane) return
    const { carrier, id } = this.state
    const isNear = revision - this.next! < this.limits.nearlyThere && this.lane(carrier.known) === this.#usualLane
    if (carrier.lane === "large" ? !this.isLarge : isNear) this.#leave(carrier, id)
  }

  /** Moves to another lane. */
  #leave(carrier: Carrier, id: number): void {
    carrier.cancel(id)
    this.state = waiting
    // Everything after `next` will be delivered, so the watch is confirmed.
    if (this.revision === undefined) this.#confirmed(this.next! - 1n)
    if (this.state._tag === "Waiting") this.wantCarrier(this)
  }

  /** The revision to request from, if the store is at `revision`. */
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
    this.#buffer.push(all)
    this.next = events[events.length - 1]!.kv.modRevision + 1n
  }

  #receiveFragment(events: ReadonlyArray<WireEvent>): void {
    const all = this.#held.length === 0 ? [...events] : this.#held.concat(events)
    const complete = watchEvents.lastRevisionStart(all)
    this.#held = complete === 0 ? all : all.slice(complete)
    if (complete === 0) return
    this.#buffer.push(all.slice(0, complete))
    this.next = this.#held[0]!.kv.modRevision
  }

  /** A full buffer removes the watch from the stream. It does not stop the stream, because other watches share it. */
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
