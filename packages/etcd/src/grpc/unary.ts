/**
 * A unary call: one message each way.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ClientHttp2Stream } from "node:http2"
import { Call, type Line } from "./call.ts"
import { frame } from "./messages.ts"
import { failure, Status } from "./status.ts"
import type { CallOptions, Failure } from "./Transport.ts"

export class UnaryCall extends Call {
  protected readonly expectsAnswer = true
  protected readonly isDelivered = true
  readonly #message: Uint8Array
  #resume: (result: Effect.Effect<Buffer, Failure>) => void
  #response: Buffer | undefined

  constructor(
    line: Line,
    path: string,
    message: Uint8Array,
    options: CallOptions,
    resume: (result: Effect.Effect<Buffer, Failure>) => void
  ) {
    super(line, path, options)
    this.#message = message
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

  protected override onLate(): void {
    const resume = this.#resume
    let ended: Effect.Effect<Buffer, Failure> | undefined
    this.#resume = (result) => void (ended = result)
    const pending = Effect.callback<Buffer, Failure>((resume) => {
      if (ended !== undefined) return resume(ended)
      this.#resume = resume
      return Effect.sync(() => this.cancel())
    })
    const delivery = this.stream === undefined ? "NotSent" : "Sent"
    const details = `no response within ${this.options.lateAfter} ms`
    resume(Exit.fail({ ...failure(Status.DEADLINE_EXCEEDED, details, delivery), pending }))
  }

  protected onEnd(failed: Failure | undefined): void {
    this.#resume(
      failed !== undefined
        ? Exit.fail(failed)
        : this.#response === undefined
        ? noMessage
        : Exit.succeed(this.#response)
    )
  }
}

const severalMessages = { code: Status.INTERNAL, details: "the server responded to a unary call with several messages" }

const noMessage = Exit.fail(failure(Status.INTERNAL, "the server responded OK without a message", "Sent"))
