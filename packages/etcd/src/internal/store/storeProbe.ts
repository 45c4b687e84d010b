/**
 * Settles suspicions that the store was replaced: a member answered at a lower revision than the store was known to have
 * had. Either that member lags, or the store went back. One linearizable read tells (see `storeIdentity.ts`).
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

/** Pause before a read that could not reach the store is tried again. */
const retryInterval = "200 millis"

export class Suspicions {
  readonly #raisedLatch = Latch.makeUnsafe()
  readonly #listeners = new Set<(upTo: number) => void>()
  #raised = 0
  /** What to read: a range that this client is known to be permitted to read, if one is known. */
  readable: KeyRange.KeyRange | undefined

  /** The number of the next suspicion that is raised. */
  get next(): number {
    return this.#raised + 1
  }

  /** Has the store checked. */
  raise(): void {
    this.#raised++
    this.#raisedLatch.openUnsafe()
  }

  /** Calls the function whenever suspicions turn out to be unfounded, with the number of the last of them. */
  onSettled(listener: (upTo: number) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Has the store checked, and waits until it was. */
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

  /** Settles suspicions as they are raised. A read that finds the store replaced reports it by itself. */
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
