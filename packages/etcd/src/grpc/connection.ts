/**
 * One HTTP/2 connection whose peer has sent its SETTINGS. It opens the streams of requests.
 *
 * It tracks how many streams the peer allows, and which streams the peer has not processed.
 */
import { executionAsyncResource } from "node:async_hooks"
import type { ClientHttp2Session, ClientHttp2Stream, OutgoingHttpHeaders } from "node:http2"
import type { Socket } from "node:net"
import { KeepAlive, type KeepAliveOptions, type PingPace } from "./keepAlive.ts"
import { Reset, resetName } from "./status.ts"
import type { Address, Delivery } from "./Transport.ts"

/** The callbacks of a connection to its channel. */
export interface Owner {
  /** Called when there may be room for another stream. */
  readonly onRoom: (connection: Connection) => void
  /** Called when the connection takes no more requests. */
  readonly onRetired: (connection: Connection, problem: string) => void
  readonly onSuspect: (connection: Connection) => void
  readonly onRecovered: (connection: Connection) => void
  readonly onClosed: (connection: Connection, problem: string) => void
}

/** A call whose stream is open on a connection. */
export interface OpenCall {
  /** Called when another connection has replaced this one. */
  readonly abandon: () => void
}

/** Stream ids end at 2^31 - 1. A connection is replaced before that. */
const lastUsableId = 2 ** 31 - 2 ** 16

/**
 * A connection is replaced after this many refused streams in a row. After a protocol violation Node itself
 * refuses streams, until it ends the session in a later turn of the event loop. An immediate retry would spin.
 */
const mostRefused = 3

/** How long to wait for the socket of a destroyed connection to close, in milliseconds. */
const longestClose = 1000

export class Connection {
  readonly address: Address
  readonly keepAlive: KeepAlive
  readonly #session: ClientHttp2Session
  readonly #socket: Socket
  readonly #pace: PingPace
  #owner: Owner | undefined
  readonly #calls = new Set<OpenCall>()
  #limit: number
  /** The last stream id of the peer's GOAWAY. Streams above it were not processed. */
  #lastProcessed = Number.POSITIVE_INFINITY
  /** Whether a GOAWAY had the code REFUSED_STREAM. Node then reports that code for every stream that it ends. */
  #isRefusedAsAWhole = false
  /** Refused streams since anything was received. */
  #refused = 0
  readonly #openedAt = performance.now()
  #isRetired = false
  #isDraining = false
  #isClosed = false
  #problem: string | undefined
  /**
   * The native half of the session, which must not be collected before its streams are freed.
   *
   * A session that ends in the middle of a header block leaves headers in its native streams. Node frees these in the
   * check phase of the event loop. If the session is collected before that, Node aborts the process with "Assertion
   * failed: (current_nghttp2_memory_) == (0)". So a peer could abort it.
   */
  readonly #native = executionAsyncResource()
  /** Whether the peer has ever responded. Before its first response it has not proved that it works. */
  hasResponded = false

  /** Must be called in a callback of the session, whose async resource is then its native half. */
  constructor(
    session: ClientHttp2Session,
    socket: Socket,
    address: Address,
    options: KeepAliveOptions,
    pace: PingPace
  ) {
    this.#session = session
    this.#socket = socket
    this.#pace = pace
    this.address = address
    this.#limit = session.remoteSettings.maxConcurrentStreams ?? Number.POSITIVE_INFINITY
    this.keepAlive = new KeepAlive(options, pace, {
      ping: (onResponse) => {
        if (session.destroyed) return
        session.ping((error: Error | null) => {
          if (error !== null) return
          onResponse()
          this.#owner?.onRoom(this)
        })
      },
      bytesRead: () => socket.bytesRead,
      onSuspect: () => this.#owner?.onSuspect(this),
      onRecovered: () => this.#owner?.onRecovered(this),
      onDead: (problem) => this.destroy(problem)
    })
    session.on("remoteSettings", ({ maxConcurrentStreams }) => {
      this.#limit = maxConcurrentStreams ?? Number.POSITIVE_INFINITY
      this.#owner?.onRoom(this)
    })
    session.on("goaway", this.#onGoaway)
    session.on("error", (error: Error) => {
      this.#problem ??= violation(error)
    })
    session.on("close", () => this.#onClose())
    // A TLS alert destroys the session without an event.
    socket.on("error", (error) => this.destroy(error.message))
    socket.once("close", () => this.#onClose())
  }

  /** Attaches the connection to its channel. If it has already ended, it reports that at once. */
  own(owner: Owner): void {
    this.#owner = owner
    if (this.#session.destroyed) this.#onClose()
    else if (this.#isRetired) owner.onRetired(this, this.#problem ?? "")
  }

  get isUsable(): boolean {
    return !this.#isRetired && !this.#session.destroyed && !this.#session.closed
  }

  /** Milliseconds since the connection was opened. */
  get age(): number {
    return performance.now() - this.#openedAt
  }

  get isDestroyed(): boolean {
    return this.#session.destroyed
  }

  get hasRoom(): boolean {
    return !this.isFull && this.isUsable
  }

  /** Whether the peer's limit on streams is reached. */
  get isFull(): boolean {
    return this.#calls.size >= this.#limit
  }

  /** How many streams the peer allows at a time. */
  get limit(): number {
    return this.#limit
  }

  get problem(): string {
    return this.#problem ?? "the server closed the connection"
  }

  /** The reason for which the connection ended under the stream. The streams learn of a violation before the session. */
  problemFor({ errored }: ClientHttp2Stream): string {
    return this.#problem ?? (errored instanceof Error ? violation(errored) : this.problem)
  }

  /** Opens a stream. Its `close` event must be reported with {@link closed}. Throws if a header is invalid. */
  open(headers: OutgoingHttpHeaders, call: OpenCall, expectsResponse: boolean): ClientHttp2Stream {
    const stream = this.#session.request(headers, requestOptions)
    this.#calls.add(call)
    this.keepAlive.opened(expectsResponse)
    if (stream.id !== undefined && stream.id > lastUsableId) this.#retire("the connection has used up its stream ids")
    return stream
  }

  /** Reports that a stream has closed. */
  closed(stream: ClientHttp2Stream, call: OpenCall, expectsResponse: boolean): void {
    this.#calls.delete(call)
    this.keepAlive.ended(expectsResponse)
    if (stream.rstCode === Reset.REFUSED_STREAM && ++this.#refused >= mostRefused) {
      this.#retire(`the server rejected ${mostRefused} streams in a row`)
    }
    if (this.#calls.size === 0 && this.#isDraining) this.destroy(this.problem)
    else this.#owner?.onRoom(this)
  }

  /** Reports that data was received on a stream. */
  received(): void {
    this.hasResponded = true
    this.#refused = 0
    this.keepAlive.received()
  }

  /** Whether the peer can have processed the request of a stream that has closed. */
  deliveryOf(stream: ClientHttp2Stream, hasResponse: boolean): Delivery {
    if (stream.id === undefined) return "NotSent"
    if (hasResponse) return "Sent"
    const isRefused = stream.rstCode === Reset.REFUSED_STREAM && !this.#isRefusedAsAWhole
    return isRefused || stream.id > this.#lastProcessed ? "NotProcessed" : "Sent"
  }

  /** Closes the connection once its streams have ended. */
  drain(): void {
    this.#isRetired = true
    this.#isDraining = true
    if (this.#calls.size === 0) this.destroy(this.problem)
  }

  /**
   * Reports that another connection has replaced this silent one. Only calls that must not be retried stay, for a short
   * time.
   */
  abandon(): void {
    this.keepAlive.endIfSilent()
    this.drain()
    for (const call of Array.from(this.#calls)) call.abandon()
  }

  destroy(problem: string): void {
    this.#problem ??= problem
    this.#isRetired = true
    this.keepAlive.stop()
    if (!this.#session.destroyed) this.#session.destroy()
    this.#socket.destroy()
  }

  /** Calls back when the socket is closed, or after a second. */
  onceGone(onGone: () => void): void {
    if (this.#socket.closed) return onGone()
    const done = (): void => {
      clearTimeout(timer)
      this.#socket.off("close", done)
      onGone()
    }
    const timer = setTimeout(done, longestClose)
    this.#socket.once("close", done)
  }

  readonly #onGoaway = (code: number, lastStreamId: number, data?: Uint8Array): void => {
    this.#lastProcessed = Math.min(this.#lastProcessed, lastStreamId)
    const text = data === undefined ? "" : Buffer.from(data).toString("latin1").slice(0, 100)
    if (code === Reset.REFUSED_STREAM) this.#isRefusedAsAWhole = true
    if (code === Reset.ENHANCE_YOUR_CALM) this.#pace.slowDown()
    const reason = [code === Reset.NO_ERROR ? "" : resetName(code), text].filter((part) => part !== "").join(", ")
    this.#retire(`the server is closing the connection${reason === "" ? "" : ` (${reason})`}`)
  }

  #retire(problem: string): void {
    this.#problem ??= problem
    if (this.#isRetired) return
    this.#isRetired = true
    this.#owner?.onRetired(this, problem)
    // Deferred, because the caller is still handling the stream with the last id, or the streams that the GOAWAY ends.
    setImmediate(() => this.drain())
  }

  #onClose(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#isRetired = true
    this.keepAlive.stop()
    this.#socket.destroy()
    // Node frees native streams before it runs immediates.
    setImmediate(release, this.#native)
    this.#owner?.onClosed(this, this.problem)
  }
}

/**
 * Describes the error with which Node ends a session. It reports a response header that is too large as a protocol
 * error. The server has executed that request, and perhaps the others on the connection.
 */
const violation = ({ message }: Error): string =>
  /^Protocol error|CONTINUATION/.test(message)
    ? `${message} (the server sent invalid HTTP/2, or headers above the limit of 64 KiB)`
    : message

/** Its argument was kept until now. */
const release = (_: object): void => {}

const requestOptions = { endStream: false }
