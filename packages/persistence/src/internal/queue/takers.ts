/**
 * The takers of a queue in this process that wait for an item, in the order of arrival.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { PersistedQueueError } from "effect/persistence/PersistedQueue"
import type { Claimed } from "./claims.ts"

export interface Taker {
  readonly maxAttempts: number
  readonly item: Deferred.Deferred<Claimed, PersistedQueueError>
  /** What it was given. It must be returned if the taker was interrupted meanwhile. */
  given: Claimed | undefined
}

export class Takers {
  readonly #waiting = new Set<Taker>()
  /** Open while there are any. */
  readonly arrived = Latch.makeUnsafe(false)

  get count(): number {
    return this.#waiting.size
  }

  /** The limit of the taker that gets the next item; takers of one queue have the same. */
  get maxAttempts(): number {
    const [first] = this.#waiting
    return first?.maxAttempts ?? Infinity
  }

  add(maxAttempts: number): Taker {
    const taker: Taker = { maxAttempts, item: Deferred.makeUnsafe(), given: undefined }
    this.#waiting.add(taker)
    this.arrived.openUnsafe()
    return taker
  }

  remove(taker: Taker): void {
    this.#waiting.delete(taker)
    if (this.#waiting.size === 0) this.arrived.closeUnsafe()
  }

  /** Hands the item to the first taker. False if there is none. */
  give(claimed: Claimed): boolean {
    const [first] = this.#waiting
    if (first === undefined) return false
    this.remove(first)
    first.given = claimed
    Deferred.doneUnsafe(first.item, Effect.succeed(claimed))
    return true
  }

  /** Fails all takers. Those that arrive meanwhile, because a caller tries again at once, are not affected. */
  fail(error: PersistedQueueError): void {
    const failed = [...this.#waiting]
    this.#waiting.clear()
    this.arrived.closeUnsafe()
    for (const { item } of failed) Deferred.doneUnsafe(item, Effect.fail(error))
  }
}
