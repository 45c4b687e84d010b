/**
 * One stream to one server with many watches. It assigns their ids, and passes each response to its watch.
 *
 * The server responds to creates in the order in which they were sent. Its response to a rejected create has the id -1,
 * so only the order identifies the create. An id is never reused on a stream: the server may still send events that it
 * had queued for a cancelled watch, or keep them for the next watch with that id.
 */
import type { Sent } from "../store/storeIdentity.ts"
import type { Store } from "../wire/decoded.ts"
import type { Carrier, Known, Lane, WatchState } from "./watchState.ts"
import * as watchWire from "./watchWire.ts"

/** The callbacks of a stream to its pool. */
export interface Owner {
  /** The server rejected the create, or cancelled the watch, for this reason. The watch has left the stream. */
  readonly rejected: (stream: WatchStream, watch: WatchState, reason: string) => void
  /** The server has confirmed a watch. */
  readonly confirmed: (stream: WatchStream) => void
  /**
   * The server splits a response of many small events, which takes quadratic time. Returns whether the pool abandons
   * the stream for one on which the server does not split.
   */
  readonly splitsSlowly: (stream: WatchStream) => boolean
  /** The server sent an invalid response. */
  readonly invalidResponse: (stream: WatchStream, message: string) => void
}

export interface Options {
  readonly lane: Lane
  readonly endpoint: string
  /** Whether the stream uses a new token. */
  readonly hasNewToken: boolean
  /** Whether the server splits large responses. */
  readonly fragment: boolean
  readonly known: Known
  readonly store: Store
}

interface PendingCreate {
  readonly id: number
  /** What was known about the store when the create was sent. */
  readonly sent: Sent
  /** `undefined` once the watch was cancelled. The response still arrives. */
  watch: WatchState | undefined
}

/** A fragment has up to 2 MiB. It takes etcd milliseconds with a thousand events, and seconds with twenty thousand. */
const eventsPerFragment = 4096

export class WatchStream implements Carrier {
  readonly lane: Lane
  readonly endpoint: string
  readonly hasNewToken: boolean
  readonly fragment: boolean
  readonly #send: (request: watchWire.Request) => void
  readonly #owner: Owner
  readonly #watches = new Map<number, WatchState>()
  #creating: Array<PendingCreate> = []
  #lastId = 0
  #ended = false
  /** Ticks since the server last sent something. */
  silentTicks = 0
  /** Ticks since the stream had its last watch. */
  idleTicks = 0
  /** Ticks since the stream's first confirmation. */
  ticks = 0
  /** Whether the server has confirmed any watch on the stream. */
  hasConfirmed = false
  /**
   * The responses since one with a lower revision than the store is known to have had. They are kept until it is
   * certain that the member lags, because nothing from a replaced store may be delivered.
   */
  #unverified: { readonly suspicion: number; readonly responses: Array<watchWire.Response> } | undefined
  /** Ticks while the stream had such responses. */
  unverifiedTicks = 0
  /** The member that serves the stream, `0n` if it is unknown. */
  memberId = 0n
  /** The watches that were live at the progress request. The response applies only to these. */
  #progressRequested: Set<number> | undefined
  readonly known: Known
  readonly #store: Store

  constructor(options: Options, send: (request: watchWire.Request) => void, owner: Owner) {
    this.lane = options.lane
    this.endpoint = options.endpoint
    this.hasNewToken = options.hasNewToken
    this.fragment = options.fragment
    this.known = options.known
    this.#store = options.store
    this.#send = send
    this.#owner = owner
  }

  get isEmpty(): boolean {
    return this.#watches.size === 0
  }

  /** Whether any watch on the stream is confirmed. */
  get isLive(): boolean {
    return this.#watches.size > this.#creating.filter(({ watch }) => watch !== undefined).length
  }

  get awaitsResponse(): boolean {
    return this.#creating.length > 0
  }

  get isUnverified(): boolean {
    return this.#unverified !== undefined
  }

  create(watch: WatchState, from: bigint): number {
    const id = ++this.#lastId
    this.#watches.set(id, watch)
    // Silence counts from the first pending create.
    if (!this.awaitsResponse) this.silentTicks = 0
    this.idleTicks = 0
    this.#creating.push({ id, watch, sent: this.#store.identity.sent() })
    this.#send(watchWire.create(watch.request, id, from, this.fragment))
    return id
  }

  /** Requests the progress of the watches that are live now. The server may not respond. */
  requestProgress(): void {
    if (this.#ended) return
    // The response to an earlier request may be in flight, and applies only to that request's watches.
    this.#progressRequested ??= new Set(
      [...this.#watches].flatMap(([id, watch]) => watch.state._tag === "Live" ? [id] : [])
    )
    this.#send(watchWire.progress)
  }

  #progressed(revision: bigint): void {
    const ids = this.#progressRequested ?? []
    this.#progressRequested = undefined
    for (const id of ids) this.#watches.get(id)?.progressed(revision)
  }

  cancel(id: number): void {
    if (this.#ended || !this.#watches.delete(id)) return
    const pending = this.#creating.find((create) => create.id === id)
    if (pending !== undefined) pending.watch = undefined
    this.#send(watchWire.cancel(id))
  }

  get watches(): ReadonlyArray<WatchState> {
    return [...this.#watches.values()]
  }

  /** Removes the watches whose creates are pending. */
  takePending(): ReadonlyArray<WatchState> {
    const pending = this.#creating.flatMap(({ id, watch }) => watch === undefined ? [] : [{ id, watch }])
    for (const { id } of pending) this.cancel(id)
    return pending.map(({ watch }) => watch)
  }

  /** The watch with the largest pending create. */
  largestPending(): WatchState | undefined {
    const sizes = this.#creating.flatMap(({ watch }) =>
      watch === undefined ? [] : [{ watch, size: watchWire.sizeOf(watch.request) }]
    )
    return sizes.sort((a, b) => b.size - a.size)[0]?.watch
  }

  /** Stops all sending. Returns the watches that were on the stream. */
  end(): ReadonlyArray<WatchState> {
    this.#ended = true
    this.#unverified = undefined
    const watches = [...this.#watches.values()]
    this.#watches.clear()
    this.#creating = []
    return watches
  }

  receive(response: watchWire.Response): void {
    if (this.#ended) return
    this.silentTicks = 0
    if (this.#unverified !== undefined) {
      this.#unverified.responses.push(response)
    } else if (this.#observe(response)) {
      this.unverifiedTicks = 0
      this.#unverified = { suspicion: this.#store.suspicions.next, responses: [response] }
      // The suspicion may be settled before this returns.
      this.#store.suspicions.raise()
    } else {
      this.#deliver(response)
    }
  }

  /** Reports that the store was the same at all suspicions up to this one. */
  verified(upTo: number): void {
    if (this.#unverified === undefined || this.#unverified.suspicion > upTo) return
    const [first, ...others] = this.#unverified.responses
    this.#unverified = undefined
    this.#deliver(first!)
    for (const response of others) this.receive(response)
  }

  /** Whether the response may come from another store. If it certainly does, the stream has ended when this returns. */
  #observe({ created, header }: watchWire.Response): boolean {
    this.memberId = header.memberId
    const { identity } = this.#store
    const create = created ? this.#creating[0] : undefined
    if (create === undefined) identity.observeCluster(header, this.endpoint)
    else if (identity.observe(header, create.sent, this.endpoint, "Member") === "Behind") return true
    return false
  }

  #deliver(response: watchWire.Response): void {
    if (this.#ended) return
    if (response.fragment && response.events.length > eventsPerFragment && this.#owner.splitsSlowly(this)) return
    if (response.hasEvents) {
      this.#watches.get(response.watchId)?.received(response)
    } else if (response.created) {
      this.#created(response)
    } else if (response.canceled) {
      this.#cancelled(response)
    } else if (response.watchId === -1) {
      this.#progressed(this.#revisionOf(response))
    } else {
      this.#watches.get(response.watchId)?.progressed(this.#revisionOf(response))
    }
  }

  #created(response: watchWire.Response): void {
    const create = this.#creating.shift()
    if (create === undefined || !response.canceled && create.id !== response.watchId) {
      this.#owner.invalidResponse(
        this,
        `the server created watch ${response.watchId}, which the client did not request`
      )
      return
    }
    if (response.canceled) {
      if (create.watch !== undefined) this.#reject(create.id, create.watch, response)
      return
    }
    const revision = this.#revisionOf(response)
    this.hasConfirmed = true
    if (create.watch !== undefined) this.#store.suspicions.readable = create.watch.request.range
    create.watch?.created(revision)
    this.#owner.confirmed(this)
  }

  /** Responses to our own cancels arrive here too. Those watches are no longer known. */
  #cancelled(response: watchWire.Response): void {
    const watch = this.#watches.get(response.watchId)
    if (watch !== undefined) this.#reject(response.watchId, watch, response)
  }

  #reject(id: number, watch: WatchState, response: watchWire.Response): void {
    if (response.compactRevision > 0) {
      // The server keeps a compacted watch until it is cancelled, so it stays on the stream until it ends.
      watch.compacted(BigInt(response.compactRevision))
      return
    }
    this.#watches.delete(id)
    this.#owner.rejected(this, watch, response.cancelReason)
  }

  #revisionOf(response: watchWire.Response): bigint {
    const { revision } = response.header
    if (revision > this.known.revision) this.known.revision = revision
    return revision
  }
}
