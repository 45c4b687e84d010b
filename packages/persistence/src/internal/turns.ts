/**
 * Turns of the clients that write the same key, so that each gets its share.
 *
 * Without them, the client that wrote last knows the state and writes again at once, while the others are still reading
 * it: some never succeed. With them, a client that has written waits for as long as the others need for one write each. It
 * counts those whose writes it has seen within the last second. One that has lost tries again soon: the more often it has lost,
 * the sooner. So few contend at a time, and the one that has waited longest is first.
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** For how long another client is remembered, in milliseconds. */
const memoryMillis = 1000

/** However many contend, a client waits no longer for its turn. */
const maxWaitMillis = 500

/** A timer would end a shorter wait too late. */
const minWaitMillis = 0.5

/** Times are in milliseconds of the monotonic clock. */
export class Turns {
  /** When other clients were seen. */
  readonly #others = new Map<string, number>()
  #nextAt = Number.NEGATIVE_INFINITY
  /** How long the last write took. */
  #writeMillis = 0

  /** Another client has written. */
  saw(client: string, now: number): void {
    this.#others.set(client, now)
  }

  /** A write of this client has ended, whether it was applied or not. */
  wrote(writeMillis: number): void {
    this.#writeMillis = writeMillis
  }

  /** Whether others write too. Then what this client knows of the key is old when its next turn begins. */
  isContended(now: number): boolean {
    for (const [client, seen] of this.#others) if (now - seen > memoryMillis) this.#others.delete(client)
    return this.#others.size > 0
  }

  /** Ends the turn of this client. */
  end(now: number): Effect.Effect<void> {
    const roundMillis = this.isContended(now) ? this.#others.size * this.#writeMillis : 0
    if (roundMillis === 0) return Effect.void
    return Effect.map(Random.next, (random) => {
      this.#nextAt = now + Math.min(roundMillis * (1 + 2 * random), maxWaitMillis)
    })
  }

  /** Waits for the next turn. */
  next(now: number): Effect.Effect<void> {
    return wait(this.#nextAt - now)
  }

  /** Waits after a number of conflicts, in a random order with others that have lost. */
  afterConflict(conflicts: number): Effect.Effect<void> {
    return Effect.flatMap(Random.next, (random) => wait(random * this.#writeMillis / (2 * conflicts)))
  }
}

const wait = (millis: number): Effect.Effect<void> => millis < minWaitMillis ? Effect.void : Effect.sleep(millis)
