/**
 * One stream to one server with many watches. It assigns their ids, and passes each response to its watch.
 *
 * The server responds to creates in the order in which they were sent. Its response to a rejected create has the id -1,
 * so only the order identifies the create. An id is never reused on a stream: the server may still send events that it
 * had queued for a cancelled watch, or keep them for the next watch with that id.
 *
 * `etcd grpc-proxy` ignores the requested ids, chooses its own, and responds to creates in any order. So the creates of a
 * stream are sent one at a time until a response shows that the endpoint uses the requested ids.
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
  /** Who chooses the ids of watches, by endpoint, as far as it is known. The stream adds what it learns. */
  readonly idChoices: Map<string, IdChoice>
}

/** Who chooses the ids of watches: the client, as with etcd, or the server, as with `etcd grpc-proxy`. */
export type IdChoice = "Client" | "Server"

/** A create that waits for the response to the one before it. */
interface UnsentCreate {
  readonly id: number
  readonly watch: WatchState
  readonly from: bigint
}

interface PendingCreate {
  readonly id: number
  /** What was known about the store when the create was sent. */
  readonly sent: Sent
  /** `undefined` once the watch was cancelled. The response still arrives. */
  watch: WatchState | undefined
  /** Whether the cancel request is still to be sent. */
  isCancelUnsent: boolean
}

/** A fragment has up to 2 MiB. It takes etcd milliseconds with a thousand events, and seconds with twenty thousand. */
const eventsPerFragment = 4096

/** Requested ids are above it. A proxy counts from 0, so that an id that it chose is never taken for a requested one. */
const lastServerId = 2 ** 31

export class WatchStream implements Carrier {
  readonly lane: Lane
  readonly endpoint: string
  readonly hasNewToken: boolean
  readonly fragment: boolean
  readonly #send: (request: watchWire.Request) => void
  readonly #owner: Owner
  readonly #watches = new Map<number, WatchState>()
  #creating: Array<PendingCreate> = []
  #unsent: Array<UnsentCreate> = []
  #lastId = lastServerId
  readonly #idChoices: Map<string, IdChoice>
  /** The requested ids of live watches, by the id that the server chose. */
  readonly #requestedIds = new Map<number, number>()
  readonly #chosenIds = new Map<number, number>()
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
    this.#idChoices = options.idChoices
    this.#send = send
    this.#owner = owner
  }

  get isEmpty(): boolean {
    return this.#watches.size === 0
  }

  /** Whether any watch on the stream is confirmed. */
  get isLive(): boolean {
    return this.#watches.size > this.#creating.filter(({ watch }) => watch !== undefined).length + this.#unsent.length
  }

  /** Whether creates are sent one at a time. */
  get #isSerial(): boolean {
    return this.#idChoices.get(this.endpoint) !== "Client"
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
    this.idleTicks = 0
    if (this.#isSerial && this.awaitsResponse) this.#unsent.push({ id, watch, from })
    else this.#sendCreate({ id, watch, from })
    return id
  }

  #sendCreate({ from, id, watch }: UnsentCreate): void {
    // Silence counts from the first pending create.
    if (!this.awaitsResponse) this.silentTicks = 0
    this.#creating.push({ id, watch, sent: this.#store.identity.sent(), isCancelUnsent: false })
    this.#send(watchWire.create(watch.request, id, from, this.fragment))
  }

  /** Sends the creates that waited for a response: the next one, or all of them if they need not wait. */
  #sendUnsent(): void {
    while (this.#unsent.length > 0 && !(this.#isSerial && this.awaitsResponse)) this.#sendCreate(this.#unsent.shift()!)
  }

  /** Requests the progress of the watches that are live now. The server may not respond. */
  requestProgress(): void {
    // `etcd grpc-proxy` does not support the request. That of etcd 3.4 crashes.
    if (this.#ended || this.#isSerial) return
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
    const unsent = this.#unsent.findIndex((create) => create.id === id)
    if (unsent !== -1) return void this.#unsent.splice(unsent, 1)
    const pending = this.#creating.find((create) => create.id === id)
    if (pending !== undefined) pending.watch = undefined
    if (pending !== undefined && this.#isSerial) {
      // Its id, needed to cancel it, is known once the response has arrived.
      pending.isCancelUnsent = true
      return
    }
    const chosen = this.#chosenIds.get(id)
    this.#forgetIds(id)
    this.#send(watchWire.cancel(chosen ?? id))
  }

  #forgetIds(id: number): void {
    const chosen = this.#chosenIds.get(id)
    if (chosen === undefined) return
    this.#chosenIds.delete(id)
    this.#requestedIds.delete(chosen)
  }

  /** The id that was requested for the watch that a response is for. */
  #requestedId(response: watchWire.Response): number {
    return this.#requestedIds.get(response.watchId) ?? response.watchId
  }

  get watches(): ReadonlyArray<WatchState> {
    return [...this.#watches.values()]
  }

  /** Removes the watches whose creates are pending. */
  takePending(): ReadonlyArray<WatchState> {
    const pending = [...this.#creating, ...this.#unsent].flatMap(({ id, watch }) =>
      watch === undefined ? [] : [{ id, watch }]
    )
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
    this.#unsent = []
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
      this.#watches.get(this.#requestedId(response))?.received(response)
    } else if (response.created) {
      this.#created(response)
    } else if (response.canceled) {
      this.#cancelled(response)
    } else if (response.watchId === -1) {
      this.#progressed(this.#revisionOf(response))
    } else {
      this.#watches.get(this.#requestedId(response))?.progressed(this.#revisionOf(response))
    }
  }

  #created(response: watchWire.Response): void {
    const create = this.#creating.shift()
    if (create === undefined || !response.canceled && !this.#acceptsId(create, response.watchId)) {
      this.#owner.invalidResponse(
        this,
        `the server created watch ${response.watchId}, which the client did not request`
      )
      return
    }
    this.#concludeCreate(create, response)
    this.#sendUnsent()
  }

  #concludeCreate(create: PendingCreate, response: watchWire.Response): void {
    if (response.canceled) {
      if (create.watch !== undefined) this.#reject(create.id, create.watch, response)
      return
    }
    const revision = this.#revisionOf(response)
    this.hasConfirmed = true
    if (create.watch === undefined) {
      // It was cancelled before its id was known.
      if (create.isCancelUnsent) this.#send(watchWire.cancel(response.watchId))
    } else {
      this.#store.suspicions.readable = create.watch.request.range
      create.watch.created(revision)
    }
    this.#owner.confirmed(this)
  }

  /** Learns from the first response who chooses ids. */
  #acceptsId(create: PendingCreate, id: number): boolean {
    if (create.id === id) {
      this.#idChoices.set(this.endpoint, "Client")
      return true
    }
    const isOnlyOne = this.#isSerial
    this.#idChoices.set(this.endpoint, "Server")
    // With several responses to come, it is not known which watch this one is for.
    if (!isOnlyOne || id < 0 || id > lastServerId || this.#requestedIds.has(id)) return false
    if (create.watch !== undefined) {
      this.#requestedIds.set(id, create.id)
      this.#chosenIds.set(create.id, id)
    }
    return true
  }

  /** Responses to our own cancels arrive here too. Those watches are no longer known. */
  #cancelled(response: watchWire.Response): void {
    const id = this.#requestedId(response)
    const watch = this.#watches.get(id)
    if (watch !== undefined) this.#reject(id, watch, response)
  }

  #reject(id: number, watch: WatchState, response: watchWire.Response): void {
    if (response.compactRevision > 0) {
      // The server keeps a compacted watch until it is cancelled, so it stays on the stream until it ends.
      watch.compacted(BigInt(response.compactRevision))
      return
    }
    this.#watches.delete(id)
    this.#forgetIds(id)
    this.#owner.rejected(this, watch, response.cancelReason)
  }

  #revisionOf(response: watchWire.Response): bigint {
    const { revision } = response.header
    if (revision > this.known.revision) this.known.revision = revision
    return revision
  }
}
