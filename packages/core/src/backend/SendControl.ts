/**
 * Control of a request that is made for several callers, shared by the wrapper that makes it and the backend.
 *
 * A request may wait a long time before it is sent, for a connection or a token. If one of its callers is interrupted
 * meanwhile, the request must not be sent with that caller's operation in it. If a caller's deadline passes, the
 * outcome of its write depends on whether the request was sent. `Batching` makes such requests. A backend that ignores
 * this module is assumed to send at once.
 */
import * as Context from "effect/Context"

/**
 * The control of one request.
 *
 * @since 0.1.0
 */
export class SendControl {
  readonly #mustNotBeSent: () => boolean
  readonly #requests: Array<() => boolean> = []
  #wasCancelled = false

  constructor(mustNotBeSent: () => boolean) {
    this.#mustNotBeSent = mustNotBeSent
  }

  /**
   * Returns true if the request must not be sent any more.
   *
   * **When to use**
   *
   * In a backend, before each attempt to send, in the same turn of the event loop. If it returns true, the backend fails
   * with `Unavailable`, as for a request that was never sent.
   */
  isCancelled(): boolean {
    return this.#wasCancelled ||= this.#mustNotBeSent()
  }

  /** True if {@link isCancelled} has returned true to the backend. */
  get wasCancelled(): boolean {
    return this.#wasCancelled
  }

  /**
   * Registers a function that returns whether any part of the request may have been sent. The backend calls `track` when
   * the request begins.
   */
  track(mayHaveBeenSent: () => boolean): void {
    this.#requests.push(mayHaveBeenSent)
  }

  /** True if any part of the request may have been sent. */
  get mayHaveBeenSent(): boolean {
    return this.#requests.length === 0 || this.#requests.some((mayHaveBeenSent) => mayHaveBeenSent())
  }
}

/**
 * The control of the current request; `undefined` for a request of one caller.
 *
 * @since 0.1.0
 */
export const Current: Context.Reference<SendControl | undefined> = Context.Reference(
  "@effect-kv/core/SendControl",
  { defaultValue: (): SendControl | undefined => undefined }
)
