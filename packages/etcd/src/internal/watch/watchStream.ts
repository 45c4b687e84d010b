/**
 * One stream to one server, with many watches on it: gives them ids, and each response to the watch that it is for.
 *
 * The server answers creates in the order in which they were sent. A refused one has the id -1 in its answer, so that the
 * order alone tells whose it was. An id is never used again on the same stream: what the server had queued for a
 * cancelled watch may come, or be kept for the next watch of that id.
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
}

interface PendingCreate {
  readonly id: number
  /** What was known of the store when it was sent. */
  readonly sent: Sent
  /** `undefined` once it was cancelled: the answer comes nevertheless. */
  watch: WatchState | undefined
}

/** A fragment is of 2 MiB, and takes etcd milliseconds with a thousand events, seconds with twenty thousand. */
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
    this.#send = send
    this.#owner = owner
  }

  get isEmpty(): boolean {
    return this.#watches.size === 0
  }

  /** Whether any watch on it was confirmed. */
  get isLive(): boolean {
    return this.#watches.size > this.#creating.filter(({ watch }) => watch !== undefined).length
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
    // Silence counts from the first question on.
    if (!this.awaitsAnswer) this.silentTicks = 0
    this.idleTicks = 0
    this.#creating.push({ id, watch, sent: this.#store.identity.sent() })
    this.#send(watchWire.create(watch.request, id, from, this.fragment))
    return id
  }

  /** Asks the server how far the watches are that are live now. It may not answer. */
  askForProgress(): void {
    if (this.#ended) return
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
    const pending = this.#creating.find((create) => create.id === id)
    if (pending !== undefined) pending.watch = undefined
    this.#send(watchWire.cancel(id))
  }

  get watches(): ReadonlyArray<WatchState> {
    return [...this.#watches.values()]
  }

  /** Takes the watches off that the server owes an answer for. */
  takeUnanswered(): ReadonlyArray<WatchState> {
    const unanswered = this.#creating.flatMap(({ id, watch }) => watch === undefined ? [] : [{ id, watch }])
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
      this.#watches.get(response.watchId)?.received(response)
    } else if (response.created) {
      this.#answered(response)
    } else if (response.canceled) {
      this.#cancelled(response)
    } else if (response.watchId === -1) {
      this.#progressed(this.#revisionOf(response))
    } else {
      this.#watches.get(response.watchId)?.progressed(this.#revisionOf(response))
    }
  }

  #answered(response: watchWire.Response): void {
    const create = this.#creating.shift()
    if (create === undefined || !response.canceled && create.id !== response.watchId) {
      this.#owner.confused(this, `the server created watch ${response.watchId}, which was not asked for`)
      return
    }
    if (response.canceled) {
      if (create.watch !== undefined) this.#refuse(create.id, create.watch, response)
      return
    }
    const revision = this.#revisionOf(response)
    this.hasConfirmed = true
    if (create.watch !== undefined) this.#store.suspicions.readable = create.watch.request.range
    create.watch?.created(revision)
    this.#owner.confirmed(this)
  }

  /** Answers to our own cancels come here too; those watches are no longer known. */
  #cancelled(response: watchWire.Response): void {
    const watch = this.#watches.get(response.watchId)
    if (watch !== undefined) this.#refuse(response.watchId, watch, response)
  }

  #refuse(id: number, watch: WatchState, response: watchWire.Response): void {
    if (response.compactRevision > 0) {
      // The server keeps a compacted watch until it is cancelled, so that it stays here until it has ended.
      watch.compacted(BigInt(response.compactRevision))
      return
    }
    this.#watches.delete(id)
    this.#owner.refused(this, watch, response.cancelReason)
  }

  #revisionOf(response: watchWire.Response): bigint {
    const { revision } = response.header
    if (revision > this.known.revision) this.known.revision = revision
    return revision
  }
}
