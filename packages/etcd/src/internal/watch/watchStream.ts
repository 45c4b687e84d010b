/**
 * One stream to one server, with many watches on it: gives them ids, and each response to the watch that it is for.
 *
 * The server answers creates in the order in which they were sent. A refused one has the id -1 in its answer, so that the
 * order alone tells whose it was. An id is never used again on the same stream: what the server had queued for a
 * cancelled watch may come, or be kept for the next watch of that id.
 *
 * `etcd grpc-proxy` ignores the requested ids, chooses its own, and answers creates in any order. So the creates of a stream
 * are sent one at a time until an answer shows that the endpoint uses the requested ids.
 */
import type { Sent } from "../store/storeIdentity.ts"
import type { Store } from "../wire/decoded.ts"
import type { Carrier, Known, Lane, WatchState } from "./watchState.ts"
import * as watchWire from "./watchWire.ts"

/** What a stream tells the one who opened it. */
export interface Owner {
  /** The server refused to create the watch, or cancelled it, for this reason. It is off the stream. */
  readonly refused: (stream: WatchStream, watch: WatchState, reason: string) => void
  /** The server has confirmed a watch. */
  readonly confirmed: (stream: WatchStream) => void
  /**
   * The server splits a response of many small events, in a time quadratic in their number. Returns whether the stream is
   * given up for one where it does not.
   */
  readonly splitsSlowly: (stream: WatchStream) => boolean
  /** What came makes no sense. */
  readonly confused: (stream: WatchStream, message: string) => void
}

export interface Options {
  readonly lane: Lane
  readonly endpoint: string
  /** Whether a new token was made for it. */
  readonly hasNewToken: boolean
  /** Whether the server is to split large responses. */
  readonly fragment: boolean
  readonly known: Known
  readonly store: Store
  /** Who chooses the ids of watches, by endpoint, as far as it is known. The stream adds what it learns. */
  readonly idChoices: Map<string, IdChoice>
}

/** Who chooses the ids of watches: the client, as with etcd, or the server, as with `etcd grpc-proxy`. */
export type IdChoice = "Client" | "Server"

/** A create that waits for the answer to the one before it. */
interface UnsentCreate {
  readonly id: number
  readonly watch: WatchState
  readonly from: bigint
}

interface PendingCreate {
  readonly id: number
  /** What was known of the store when it was sent. */
  readonly sent: Sent
  /** `undefined` once it was cancelled: the answer comes nevertheless. */
  watch: WatchState | undefined
  /** Whether the server is still to be told that it was cancelled. */
  isCancelUnsent: boolean
}

/** A fragment is of 2 MiB, and takes etcd milliseconds with a thousand events, seconds with twenty thousand. */
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
  /** How often the stream was looked at since the server was last heard. */
  silentTicks = 0
  /** How often it was looked at since it had its last watch. */
  idleTicks = 0
  /** How often it was looked at since it has confirmed a watch. */
  ticks = 0
  /** Whether the server has confirmed any watch on it. */
  hasConfirmed = false
  /**
   * The responses since one whose revision is behind what the store is known to have had. They are kept until it is certain
   * that the member lags: of a store that was replaced nothing may be delivered.
   */
  #unverified: { readonly suspicion: number; readonly responses: Array<watchWire.Response> } | undefined
  /** How often the stream was looked at while it had such responses. */
  unverifiedTicks = 0
  /** The member that serves the stream, `0n` if it is not known. */
  memberId = 0n
  /** The watches that were live when the server was asked how far they are. An answer is for no others. */
  #asked: Set<number> | undefined
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

  /** Whether any watch on it was confirmed. */
  get isLive(): boolean {
    return this.#watches.size > this.#creating.filter(({ watch }) => watch !== undefined).length + this.#unsent.length
  }

  /** Whether creates are sent one at a time. */
  get #isSerial(): boolean {
    return this.#idChoices.get(this.endpoint) !== "Client"
  }

  get awaitsAnswer(): boolean {
    return this.#creating.length > 0
  }

  get isUnverified(): boolean {
    return this.#unverified !== undefined
  }

  create(watch: WatchState, from: bigint): number {
    const id = ++this.#lastId
    this.#watches.set(id, watch)
    this.idleTicks = 0
    if (this.#isSerial && this.awaitsAnswer) this.#unsent.push({ id, watch, from })
    else this.#sendCreate({ id, watch, from })
    return id
  }

  #sendCreate({ from, id, watch }: UnsentCreate): void {
    // Silence counts from the first question on.
    if (!this.awaitsAnswer) this.silentTicks = 0
    this.#creating.push({ id, watch, sent: this.#store.identity.sent(), isCancelUnsent: false })
    this.#send(watchWire.create(watch.request, id, from, this.fragment))
  }

  /** Sends what waited for an answer: one create, or all of them if they need not wait. */
  #sendUnsent(): void {
    while (this.#unsent.length > 0 && !(this.#isSerial && this.awaitsAnswer)) this.#sendCreate(this.#unsent.shift()!)
  }

  /** Asks the server how far the watches are that are live now. It may not answer. */
  askForProgress(): void {
    // `etcd grpc-proxy` does not support the request. That of etcd 3.4 crashes.
    if (this.#ended || this.#isSerial) return
    // The answer to an earlier question may be on its way, which is for those watches alone.
    this.#asked ??= new Set([...this.#watches].flatMap(([id, watch]) => watch.state._tag === "Live" ? [id] : []))
    this.#send(watchWire.progress)
  }

  #progressed(revision: bigint): void {
    const asked = this.#asked ?? []
    this.#asked = undefined
    for (const id of asked) this.#watches.get(id)?.progressed(revision)
  }

  cancel(id: number): void {
    if (this.#ended || !this.#watches.delete(id)) return
    const unsent = this.#unsent.findIndex((create) => create.id === id)
    if (unsent !== -1) return void this.#unsent.splice(unsent, 1)
    const pending = this.#creating.find((create) => create.id === id)
    if (pending !== undefined) pending.watch = undefined
    if (pending !== undefined && this.#isSerial) {
      // Under which id it can be cancelled is known once it is answered.
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

  /** Takes the watches off that the server owes an answer for. */
  takeUnanswered(): ReadonlyArray<WatchState> {
    const unanswered = [...this.#creating, ...this.#unsent].flatMap(({ id, watch }) =>
      watch === undefined ? [] : [{ id, watch }]
    )
    for (const { id } of unanswered) this.cancel(id)
    return unanswered.map(({ watch }) => watch)
  }

  /** Of the watches that the server owes an answer for, the one that asks with the most bytes. */
  largestUnanswered(): WatchState | undefined {
    const sizes = this.#creating.flatMap(({ watch }) =>
      watch === undefined ? [] : [{ watch, size: watchWire.sizeOf(watch.request) }]
    )
    return sizes.sort((a, b) => b.size - a.size)[0]?.watch
  }

  /** Nothing is sent any more. Returns the watches that were on the stream. */
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
      // It may be settled before this returns.
      this.#store.suspicions.raise()
    } else {
      this.#deliver(response)
    }
  }

  /** It is certain that the store was the same at all suspicions up to this one. */
  verified(upTo: number): void {
    if (this.#unverified === undefined || this.#unverified.suspicion > upTo) return
    const [first, ...others] = this.#unverified.responses
    this.#unverified = undefined
    this.#deliver(first!)
    for (const response of others) this.receive(response)
  }

  /** Whether the response may be of another store. If it certainly is, the stream has ended when this returns. */
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
      this.#answered(response)
    } else if (response.canceled) {
      this.#cancelled(response)
    } else if (response.watchId === -1) {
      this.#progressed(this.#revisionOf(response))
    } else {
      this.#watches.get(this.#requestedId(response))?.progressed(this.#revisionOf(response))
    }
  }

  #answered(response: watchWire.Response): void {
    const create = this.#creating.shift()
    if (create === undefined || !response.canceled && !this.#acceptsId(create, response.watchId)) {
      this.#owner.confused(this, `the server created watch ${response.watchId}, which was not asked for`)
      return
    }
    this.#concludeCreate(create, response)
    this.#sendUnsent()
  }

  #concludeCreate(create: PendingCreate, response: watchWire.Response): void {
    if (response.canceled) {
      if (create.watch !== undefined) this.#refuse(create.id, create.watch, response)
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

  /** Learns from the first answer who chooses ids. */
  #acceptsId(create: PendingCreate, id: number): boolean {
    if (create.id === id) {
      this.#idChoices.set(this.endpoint, "Client")
      return true
    }
    const isOnlyOne = this.#isSerial
    this.#idChoices.set(this.endpoint, "Server")
    // With several answers to come, it is not known which watch this one is for.
    if (!isOnlyOne || id < 0 || id > lastServerId || this.#requestedIds.has(id)) return false
    if (create.watch !== undefined) {
      this.#requestedIds.set(id, create.id)
      this.#chosenIds.set(create.id, id)
    }
    return true
  }

  /** Answers to our own cancels come here too; those watches are no longer known. */
  #cancelled(response: watchWire.Response): void {
    const id = this.#requestedId(response)
    const watch = this.#watches.get(id)
    if (watch !== undefined) this.#refuse(id, watch, response)
  }

  #refuse(id: number, watch: WatchState, response: watchWire.Response): void {
    if (response.compactRevision > 0) {
      // The server keeps a compacted watch until it is cancelled, so that it stays here until it has ended.
      watch.compacted(BigInt(response.compactRevision))
      return
    }
    this.#watches.delete(id)
    this.#forgetIds(id)
    this.#owner.refused(this, watch, response.cancelReason)
  }

  #revisionOf(response: watchWire.Response): bigint {
    const { revision } = response.header
    if (revision > this.known.revision) this.known.revision = revision
    return revision
  }
}
