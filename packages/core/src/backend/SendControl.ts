/**
 * What a backend and who makes one call for several callers tell each other while the call is on its way.
 *
 * A call may wait for long before it is sent: for a connection, for a token. If one of its callers has gone meanwhile, it must
 * not be sent with what that one asked for; and if one's deadline passes, what became of its write depends on whether the
 * call was sent. `Batching` makes such calls. A backend that takes no notice is believed to have sent them at once.
 */
import * as Context from "effect/Context"

/** A call on its way. */
export class SendControl {
  readonly #mustNotBeSent: () => boolean
  readonly #requests: Array<() => boolean> = []
  #wasCancelled = false

  constructor(mustNotBeSent: () => boolean) {
    this.#mustNotBeSent = mustNotBeSent
  }

  /**
   * Whether the call must not be sent any more. For the backend to ask each time it is about to send, in the same turn: then
   * it fails, as one that never left.
   */
  isCancelled(): boolean {
    return this.#wasCancelled ||= this.#mustNotBeSent()
  }

  /** Whether the backend was told that it must not send. */
  get wasCancelled(): boolean {
    return this.#wasCancelled
  }

  /** For the backend, as it begins: how to learn whether any of its request may have left. */
  track(mayHaveBeenSent: () => boolean): void {
    this.#requests.push(mayHaveBeenSent)
  }

  /** Whether any of the call may have left. */
  get mayHaveBeenSent(): boolean {
    return this.#requests.length === 0 || this.#requests.some((mayHaveBeenSent) => mayHaveBeenSent())
  }
}

/** That of the current call, `undefined` where it has one caller only. */
export const Current: Context.Reference<SendControl | undefined> = Context.Reference(
  "@effect-kv/core/SendControl",
  { defaultValue: (): SendControl | undefined => undefined }
)
