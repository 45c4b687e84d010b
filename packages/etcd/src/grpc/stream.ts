/**
 * A duplex stream: messages both ways, with backpressure.
 */
import * as Effect from "effect/Effect"
import { Call, type Line } from "./call.ts"
import { frame } from "./messages.ts"
import type { CallOptions, DuplexStream, Failure, StreamListener } from "./Transport.ts"

export class StreamCall extends Call implements DuplexStream {
  /** True until the first message arrives. */
  protected expectsResponse = true
  readonly #listener: StreamListener
  readonly #onOpened: (result: Effect.Effect<DuplexStream, Failure>) => void
  #isPaused = false
  #isDelivering = false
  /** The end of a stream that broke while it was paused. */
  #broken: Failure | undefined

  constructor(
    line: Line,
    path: string,
    listener: StreamListener,
    options: CallOptions,
    onOpened: (result: Effect.Effect<DuplexStream, Failure>) => void
  ) {
    super(line, path, options)
    this.#listener = listener
    this.#onOpened = onOpened
  }

  send(message: Uint8Array): boolean {
    const { stream } = this
    return stream !== undefined && stream.writable && stream.write(frame(message))
  }

  readonly drained: Effect.Effect<void> = Effect.callback((resume) => {
    const { stream } = this
    if (stream === undefined || !stream.writable || !stream.writableNeedDrain) return resume(Effect.void)
    const done = (): void => {
      stream.off("drain", done)
      stream.off("close", done)
      resume(Effect.void)
    }
    stream.on("drain", done)
    stream.on("close", done)
    return Effect.sync(() => {
      stream.off("drain", done)
      stream.off("close", done)
    })
  })

  end(): void {
    this.stream?.end()
  }

  pause(): void {
    this.#isPaused = true
    this.stream?.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    if (!this.isDone) this.#deliver()
    if (!this.#isPaused) this.stream?.resume()
  }

  protected get isDelivered(): boolean {
    return !this.#isPaused && !this.#isDelivering
  }

  protected onOpen(): void {
    this.#onOpened(Effect.succeed(this))
  }

  protected onData(): void {
    if (this.expectsResponse) {
      this.expectsResponse = false
      this.responded()
    }
    if (!this.#isPaused) this.#deliver()
  }

  /** Delivers the messages that have arrived, until the listener pauses. */
  #deliver(): void {
    // The listener may pause and resume meanwhile.
    if (this.#isDelivering) return
    this.#isDelivering = true
    while (!this.#isPaused && !this.isDone) {
      const message = this.reader.next()
      if (message === undefined) break
      this.#listener.onMessage(message)
    }
    this.#isDelivering = false
    if (this.isDone || this.#isPaused) return
    this.endIfComplete()
    if (this.#broken !== undefined && this.isDelivered) this.settle(this.#broken)
  }

  protected override onBroken(failed: Failure): void {
    if (this.isDelivered) this.settle(failed)
    else this.#broken = failed
  }

  protected onEnd(failed: Failure | undefined): void {
    if (this.stream === undefined) this.#onOpened(Effect.fail(failed!))
    else this.#listener.onEnd(failed)
  }
}
