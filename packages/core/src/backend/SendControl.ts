/**
 * Control of a request that `Batching` makes for several callers: it can cancel the request before the backend sends
 * it, and learn whether it may have been sent.
 *
 * A backend may wait for a connection or a token before it sends a request. If a caller is interrupted meanwhile, its
 * operation must not be sent. If a caller's deadline passes, the outcome of its write depends on whether the request
 * was sent. A backend that ignores this module is assumed to send at once.
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
   * In a backend, each time it is about to send, in the same turn of the event loop. If it returns true, the backend
   * fails the request as one that was never sent.
   */
  isCancelled(): boolean {
    return this.#wasCancelled ||= this.#mustNotBeSent()
  }

  /** True if {@link isCancelled} has returned true to the backend. */
  get wasCancelled(): boolean {
    return this.#wasCancelled
  }

  /**
   * Registers a function that returns whether any part of the request may have been sent. A backend calls this when it
   * starts the request.
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
