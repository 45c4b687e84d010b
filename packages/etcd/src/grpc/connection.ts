/**
 * One HTTP/2 connection whose peer has sent its SETTINGS: what requests are opened on.
 *
 * It knows how many streams the peer allows, and what the peer said about streams it did not process.
 */
import type { ClientHttp2Session, ClientHttp2Stream, OutgoingHttpHeaders } from "node:http2"
import type { Socket } from "node:net"
import { KeepAlive, type KeepAliveOptions, type PingPace } from "./keepAlive.ts"
import { Reset, resetName } from "./status.ts"
import type { Address, Delivery } from "./Transport.ts"

/** What a connection tells its channel. */
export interface Owner {
  /** There may be room for another stream. */
  readonly onRoom: (connection: Connection) => void
  /** No request can be opened on it any more. */
  readonly onRetired: (connection: Connection, problem: string) => void
  readonly onSuspect: (connection: Connection) => void
  readonly onRecovered: (connection: Connection) => void
  readonly onClosed: (connection: Connection, problem: string) => void
}

/** A call whose stream is open on a connection. */
export interface OpenCall {
  /** Another connection has replaced this one. */
  readonly abandon: () => void
}

/** Stream ids end at 2^31 - 1. A connection is replaced before. */
const lastUsableId = 2 ** 31 - 2 ** 16

/**
 * After so many refused streams in a row, a connection is replaced. After a violation of the protocol it is Node that
 * refuses them, until it ends the session in a later turn of the event loop. A caller that repeats at once would spin.
 */
const mostRefused = 3

/** How long to wait for the end of a connection's socket after it was destroyed, in milliseconds. */
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
  /** Streams above it were not processed, by the peer's GOAWAY. */
  #lastProcessed = Number.POSITIVE_INFINITY
  /** Whether a GOAWAY had the code REFUSED_STREAM. Node then reports that code for every stream that it ends. */
  #isRefusedAsAWhole = false
  /** How many streams were refused since anything was received. */
  #refused = 0
  #isRetired = false
  #isDraining = false
  #isClosed = false
  #problem: string | undefined
  /** Whether the peer has answered anything. One that never did has not proved that it works. */
  hasAnswered = false

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
      ping: (onAnswer) => {
        if (session.destroyed) return
        session.ping((error: Error | null) => {
          if (error !== null) return
          onAnswer()
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
      this.#problem ??= error.message
    })
    session.on("close", () => this.#onClose())
    // A TLS alert destroys the session without any event of it.
    socket.on("error", (error) => this.destroy(error.message))
    socket.once("close", () => this.#onClose())
  }

  /** Connects it to the channel. A connection that has ended meanwhile says so at once. */
  own(owner: Owner): void {
    this.#owner = owner
    if (this.#session.destroyed) this.#onClose()
    else if (this.#isRetired) owner.onRetired(this, this.#problem ?? "")
  }

  get isUsable(): boolean {
    return !this.#isRetired && !this.#session.destroyed && !this.#session.closed
  }

  get isDestroyed(): boolean {
    return this.#session.destroyed
  }

  get hasRoom(): boolean {
    return this.#calls.size < this.#limit && this.isUsable
  }

  get problem(): string {
    return this.#problem ?? "the server closed the connection"
  }

  /** Opens a stream. Its `close` event has to be reported by {@link closed}. Throws if a header is invalid. */
  open(headers: OutgoingHttpHeaders, call: OpenCall, expectsAnswer: boolean): ClientHttp2Stream {
    const stream = this.#session.request(headers, requestOptions)
    this.#calls.add(call)
    this.keepAlive.opened(expectsAnswer)
    if (stream.id !== undefined && stream.id > lastUsableId) this.#retire("the connection has used up its stream ids")
    return stream
  }

  /** A stream has closed. */
  closed(stream: ClientHttp2Stream, call: OpenCall, expectsAnswer: boolean): void {
    this.#calls.delete(call)
    this.keepAlive.ended(expectsAnswer)
    if (stream.rstCode === Reset.REFUSED_STREAM && ++this.#refused >= mostRefused) {
      this.#retire(`the server refused ${mostRefused} streams in a row`)
    }
    if (this.#calls.size === 0 && this.#isDraining) this.destroy(this.problem)
    else this.#owner?.onRoom(this)
  }

  /** Something was received on a stream. */
  received(): void {
    this.hasAnswered = true
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

  /** Closes it once its streams have ended. */
  drain(): void {
    this.#isRetired = true
    this.#isDraining = true
    if (this.#calls.size === 0) this.destroy(this.problem)
  }

  /** Another connection has replaced it because it was silent. Only calls that must not be repeated stay, while it answers. */
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

  /** Calls back when its socket is closed, or after a second. */
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
    // Not now: the stream that used up the ids, or those that the GOAWAY ends, are being handled.
    setImmediate(() => this.drain())
  }

  #onClose(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#isRetired = true
    this.keepAlive.stop()
    this.#socket.destroy()
    this.#owner?.onClosed(this, this.problem)
  }
}

const requestOptions = { endStream: false }
