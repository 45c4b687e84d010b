/**
 * Suspicions that the store was replaced. One arises when a member responds with a lower revision than the store is
 * known to have had. Either the member lags, or the store went back. A linearizable read settles it (see
 * `storeIdentity.ts`).
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

/** The pause before a read that could not reach the store is retried. */
const retryInterval = "200 millis"

export class Suspicions {
  readonly #raisedLatch = Latch.makeUnsafe()
  readonly #listeners = new Set<(upTo: number) => void>()
  #raised = 0
  /** A range that this client may read, if one is known. */
  readable: KeyRange.KeyRange | undefined

  /** The number of the next suspicion. */
  get next(): number {
    return this.#raised + 1
  }

  /** Requests a check of the store. */
  raise(): void {
    this.#raised++
    this.#raisedLatch.openUnsafe()
  }

  /** Calls the listener whenever suspicions prove unfounded, with the number of the last of them. */
  onSettled(listener: (upTo: number) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Requests a check of the store, and waits for its result. */
  get checked(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const number = this.next
      const stop = this.onSettled((upTo) => {
        if (upTo < number) return
        stop()
        resume(Effect.void)
      })
      this.raise()
      return Effect.sync(stop)
    })
  }

  /**
   * Settles suspicions as they are raised. A read that finds a replaced store reports it through the store's identity.
   */
  settleAll(read: (range: KeyRange.KeyRange) => Effect.Effect<unknown, KvError.KvError>): Effect.Effect<never> {
    const settle: Effect.Effect<void> = Effect.suspend(() => {
      this.#raisedLatch.closeUnsafe()
      const upTo = this.#raised
      return Effect.matchEffect(read(this.readable ?? KeyRange.key("\0")), {
        onSuccess: () => Effect.sync(() => this.#listeners.forEach((listener) => listener(upTo))),
        onFailure: (error) => error.isRetryable ? Effect.delay(settle, retryInterval) : Effect.void
      })
    })
    return Effect.forever(Effect.andThen(this.#raisedLatch.await, settle))
  }
}
