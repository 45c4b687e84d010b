/**
 * A call: one request in a channel, from the queue to its end. Its kinds are in `unary.ts` and `stream.ts`.
 */
import type { ClientHttp2Stream, IncomingHttpHeaders, IncomingHttpStatusHeader } from "node:http2"
import type { Connection } from "./connection.ts"
import type { Deadlines, Expiring } from "./deadlines.ts"
import * as headers from "./headers.ts"
import { MessageReader } from "./messages.ts"
import {
  failure,
  fromHeaders,
  fromReset,
  fromTrailers,
  type Outcome,
  replaced,
  Reset,
  resetName,
  Status
} from "./status.ts"
import type { CallOptions, Delivery, Failure, Progress } from "./Transport.ts"

/** The functions of a channel that calls use. */
export interface Line {
  readonly origin: headers.Origin
  readonly maxMessageSize: number
  readonly deadlines: Deadlines
  /** Why calls wait, as an addition to a message. Empty if the reason is not known. */
  readonly obstacle: string
  /** Takes a call out of the queue. */
  readonly forget: (call: Call) => void
}

export abstract class Call implements Expiring {
  readonly #line: Line
  readonly #path: string
  protected readonly options: CallOptions
  readonly #progress: Progress
  /** Milliseconds until the call fails, or until it fails unless it was sent. */
  readonly #limit: number | undefined
  /** In milliseconds of `performance.now()`: when the call ends, or is late if that comes first. */
  endsAt: number
  /** Whether the call was late, or cannot be. */
  #isLate = false
  #connection: Connection | undefined
  #hasResponse = false
  #isDone = false
  #isClosed = false
  /** The status, if the server has sent it. */
  #outcome: Outcome | undefined
  protected stream: ClientHttp2Stream | undefined
  protected readonly reader: MessageReader
  /** Whether the call expects a response soon, so that silence is suspect. */
  protected abstract readonly expectsResponse: boolean

  constructor(line: Line, path: string, options: CallOptions) {
    this.#line = line
    this.#path = path
    this.options = options
    this.#progress = options.progress ?? { delivery: "NotSent" }
    this.reader = new MessageReader(options.maxMessageSize ?? line.maxMessageSize)
    this.#limit = options.timeout ?? options.sendTimeout
    this.endsAt = this.#limit === undefined ? Number.POSITIVE_INFINITY : performance.now() + this.#limit
    const { lateAfter } = options
    if (lateAfter === undefined || this.#limit === undefined) this.#isLate = true
    else this.endsAt += lateAfter - this.#limit
    if (this.#limit !== undefined) line.deadlines.add(this)
  }

  get isDone(): boolean {
    return this.#isDone
  }

  /** The stream was opened: send the request. */
  protected abstract onOpen(stream: ClientHttp2Stream): void
  /** Bytes were added to the reader. */
  protected abstract onData(): void
  /** The call is late, and continues. */
  protected onLate(): void {}
  /** The call has ended. `undefined` stands for status `OK`, after all messages have been delivered. */
  protected abstract onEnd(failure: Failure | undefined): void
  /** Whether the messages in the reader have been delivered, so that the status may follow. */
  protected abstract readonly isDelivered: boolean

  /** Whether bytes have arrived that are not in the reader yet. A closed stream yields none. */
  protected get hasUnread(): boolean {
    return !this.#isClosed && this.stream !== undefined && this.stream.readableLength > 0
  }

  /** Opens its stream on the connection. */
  begin(connection: Connection): void {
    const { isCancelled, metadata, timeout } = this.options
    if (isCancelled?.() === true) return this.reject(Status.CANCELLED, "the call was cancelled before it was sent")
    const invalid = metadata === undefined ? undefined : headers.problemOf(metadata)
    if (invalid !== undefined) return this.reject(invalid.code, invalid.details)
    const remaining = timeout === undefined ? undefined : this.#deadline - performance.now()
    let stream: ClientHttp2Stream
    try {
      stream = connection.open(
        headers.make(this.#line.origin, this.#path, this.options, remaining),
        this,
        this.expectsResponse
      )
    } catch (error) {
      if (!connection.isUsable) return this.reject(Status.UNAVAILABLE, connection.problem)
      return this.reject(Status.INTERNAL, `the request cannot be sent: ${(error as Error).message}`)
    }
    this.#connection = connection
    this.#progress.delivery = stream.id === undefined ? "NotSent" : "Sent"
    this.stream = stream
    if (timeout === undefined && this.#limit !== undefined) this.#line.deadlines.delete(this)
    stream.on("response", this.#onResponse)
    stream.on("data", this.#onChunk)
    stream.on("trailers", this.#onTrailers)
    stream.on("end", this.#onEndOfData)
    // The problem is read from the state of the stream when it closes.
    stream.on("error", ignore)
    stream.on("close", this.#onClose)
    this.onOpen(stream)
  }

  /** Ends the call before it was begun. */
  reject(code: number, details: string): void {
    this.settle(failure(code, details, "NotSent"))
  }

  /** Reports that another connection has replaced the call's connection. */
  abandon(): void {
    if (this.#isDone || this.options.isRepeatable !== true) return
    this.settle(failure(Status.UNAVAILABLE, replaced, "Sent"))
    this.#reset()
  }

  /** Reports that the server has opened a stream. From now on it may be silent. */
  protected responded(): void {
    this.#connection?.keepAlive.responded()
  }

  /** Ends the call without a callback. */
  cancel(): void {
    if (this.#isDone) return
    this.#finish()
    this.#reset()
  }

  protected settle(failed: Failure | undefined): void {
    if (this.#isDone) return
    this.#finish()
    if (failed !== undefined) this.#progress.delivery = failed.delivery
    this.onEnd(failed)
  }

  /** Ends the call because of data that the server sent. */
  protected endWith({ code, details, messageSize }: Outcome): void {
    this.settle(failure(code, details, "Sent", messageSize))
    this.#reset()
  }

  /** Ends the call with the server's status, if that has come and all messages are delivered. */
  protected endIfComplete(): void {
    if (this.reader.problem !== undefined) return this.endWith(this.reader.problem)
    const outcome = this.#outcome
    if (outcome === undefined || this.hasUnread || !this.isDelivered) return
    if (outcome.code !== Status.OK) this.settle(failure(outcome.code, outcome.details, "Sent"))
    else if (this.reader.isEmpty) this.settle(undefined)
    else this.settle(failure(Status.INTERNAL, "the response ended in the middle of a message", "Sent"))
    // The server has responded before it has read the whole request.
    if (this.stream?.writableFinished === false) this.#reset()
  }

  #finish(): void {
    this.#isDone = true
    if (this.#limit !== undefined) this.#line.deadlines.delete(this)
    if (this.stream === undefined) this.#line.forget(this)
  }

  #reset(): void {
    const { stream } = this
    if (stream === undefined || stream.closed || stream.destroyed) return
    stream.close(Reset.CANCEL)
    // A paused stream closes only after its buffer has been read.
    stream.resume()
  }

  readonly #onResponse = (response: IncomingHttpHeaders & IncomingHttpStatusHeader): void => {
    this.#received()
    if (this.#isDone) return
    const outcome = fromHeaders(response)
    if (outcome === undefined) return
    this.#outcome = outcome
    // A response without a gRPC body: nothing in it is a message.
    if (outcome.code !== Status.OK) return this.endWith(outcome)
    this.endIfComplete()
  }

  readonly #onChunk = (chunk: Buffer): void => {
    this.#received()
    if (this.#isDone) return
    this.reader.push(chunk)
    this.onData()
    if (this.#outcome !== undefined) this.endIfComplete()
  }

  readonly #onTrailers = (trailers: IncomingHttpHeaders): void => {
    this.#received()
    this.#outcome ??= fromTrailers(trailers) ?? noStatus
    this.endIfComplete()
  }

  /** The server has ended its side. If this side is still open, the stream does not close by itself. */
  readonly #onEndOfData = (): void => {
    if (!this.#isDone && this.#outcome === undefined && !this.stream!.closed) this.#outcome = noStatus
    this.endIfComplete()
  }

  #received(): void {
    this.#hasResponse = true
    this.#connection!.received()
  }

  readonly #onClose = (): void => {
    const connection = this.#connection!
    const stream = this.stream!
    connection.closed(stream, this, this.expectsResponse)
    this.#isClosed = true
    if (this.#isDone) return
    this.endIfComplete()
    // If messages are still to be delivered, the status comes after them.
    if (this.#isDone || this.#outcome !== undefined) return
    const delivery = connection.deliveryOf(stream, this.#hasResponse)
    this.onBroken(brokenBy(stream, connection, delivery))
  }

  /** The stream has closed without a status. */
  protected onBroken(failed: Failure): void {
    this.settle(failed)
  }

  get #deadline(): number {
    return this.#isLate ? this.endsAt : this.endsAt + this.#limit! - this.options.lateAfter!
  }

  expire(): void {
    if (this.#isDone) return
    if (!this.#isLate) {
      this.endsAt = this.#deadline
      this.#isLate = true
      this.#line.deadlines.add(this)
      return this.onLate()
    }
    const delivery: Delivery = this.stream === undefined ? "NotSent" : "Sent"
    this.settle(failure(
      Status.DEADLINE_EXCEEDED,
      `${delivery === "Sent" ? "no response" : "not sent"} within ${this.#limit} ms${
        delivery === "Sent" ? "" : this.#line.obstacle
      }`,
      delivery
    ))
    this.#reset()
  }
}

const ignore = (): void => {}

const noStatus: Outcome = { code: Status.UNKNOWN, details: "the server ended the response without a grpc-status" }

/** Node itself resets a stream with this code, and reports that like a reset by the server. */
const hint = (code: number): string =>
  code === Reset.ENHANCE_YOUR_CALM ? "; it may have sent more than 128 headers, which is the limit" : ""

/** The cause of the end of a stream without a status. */
const brokenBy = (stream: ClientHttp2Stream, connection: Connection, delivery: Delivery): Failure => {
  const code = stream.rstCode ?? Reset.NO_ERROR
  const isLost = connection.isDestroyed || delivery === "NotSent"
  if (isLost || delivery === "NotProcessed" && !connection.isUsable) {
    return failure(Status.UNAVAILABLE, connection.problemFor(stream), delivery)
  }
  return code === Reset.NO_ERROR
    ? failure(noStatus.code, noStatus.details, delivery)
    : failure(fromReset(code), `the server reset the stream (${resetName(code)})${hint(code)}`, delivery)
}
