/**
 * A unary call: one message each way.
 */
import type * as Effect from "effect/Effect"
import type { ClientHttp2Stream } from "node:http2"
import { Call, type Line } from "./call.ts"
import { frame } from "./messages.ts"
import { failure, Status } from "./status.ts"
import type { CallOptions, Failure, OnOutcome } from "./Transport.ts"

export class UnaryCall<A, E> extends Call {
  protected readonly expectsResponse = true
  protected readonly isDelivered = true
  readonly #message: Uint8Array
  readonly #on: OnOutcome<A, E>
  readonly #resume: (result: Effect.Effect<A, E>) => void
  #response: Buffer | undefined

  constructor(
    line: Line,
    path: string,
    message: Uint8Array,
    options: CallOptions,
    on: OnOutcome<A, E>,
    resume: (result: Effect.Effect<A, E>) => void
  ) {
    super(line, path, options)
    this.#message = message
    this.#on = on
    this.#resume = resume
  }

  protected onOpen(stream: ClientHttp2Stream): void {
    if (this.options.endAfterResponse === true) stream.write(frame(this.#message))
    else stream.end(frame(this.#message))
  }

  protected onData(): void {
    const message = this.reader.next()
    if (message !== undefined) {
      if (this.#response !== undefined) return this.endWith(severalMessages)
      this.#response = message
      if (this.options.endAfterResponse === true) {
        this.settle(undefined)
        this.stream?.end()
        return
      }
      if (!this.reader.isEmpty) return this.onData()
    }
    if (this.reader.problem !== undefined) this.endWith(this.reader.problem)
  }

  protected onEnd(failed: Failure | undefined): void {
    const on = this.#on
    this.#resume(
      failed === undefined && this.#response !== undefined
        ? on.onSuccess(this.#response)
        : on.onFailure(failed ?? noMessage)
    )
  }
}

const severalMessages = { code: Status.INTERNAL, details: "the server responded to a unary call with several messages" }

const noMessage = failure(Status.INTERNAL, "the server responded OK without a message", "Sent")
