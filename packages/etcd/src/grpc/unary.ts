/**
 * A unary call: one message each way.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
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
  /** Receives the outcome of a call that was reported as late. */
  #late: ((outcome: Exit.Exit<Buffer, Failure>) => void) | undefined

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

  protected override onLate(): void {
    let ended: Exit.Exit<Buffer, Failure> | undefined
    this.#late = (outcome) => void (ended = outcome)
    const pending = Effect.callback<Buffer, Failure>((resume) => {
      if (ended !== undefined) return resume(ended)
      this.#late = resume
      return Effect.sync(() => this.cancel())
    })
    const delivery = this.stream === undefined ? "NotSent" : "Sent"
    const details = `no response within ${this.options.lateAfter} ms`
    this.#resume(this.#on.onFailure({ ...failure(Status.DEADLINE_EXCEEDED, details, delivery), pending }))
  }

  protected onEnd(failed: Failure | undefined): void {
    const on = this.#on
    const response = failed === undefined ? this.#response : undefined
    if (this.#late === undefined) {
      this.#resume(response === undefined ? on.onFailure(failed ?? noMessage) : on.onSuccess(response))
    } else this.#late(response === undefined ? Exit.fail(failed ?? noMessage) : Exit.succeed(response))
  }
}

const severalMessages = { code: Status.INTERNAL, details: "the server responded to a unary call with several messages" }

const noMessage = failure(Status.INTERNAL, "the server responded OK without a message", "Sent")
