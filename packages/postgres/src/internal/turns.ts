/**
 * Turns: how many statements of a client are in flight at once. The others wait in the order in which they came.
 */

/** Something that waits for its turn. */
export interface Entrant {
  /** Called once, when it has a turn. It calls `leave` when it has ended. */
  readonly start: () => void
}

export class Turns {
  #free: number
  readonly #waiting = new Set<Entrant>()
  #isNextDue = false

  constructor(count: number) {
    this.#free = count
  }

  /** Starts the entrant now if there is a free turn, otherwise when its turn comes. */
  enter(entrant: Entrant): void {
    if (this.#free === 0 || this.#waiting.size > 0) {
      this.#waiting.add(entrant)
      return
    }
    this.#free--
    entrant.start()
  }

  /** Removes an entrant that waits. */
  abandon(entrant: Entrant): void {
    this.#waiting.delete(entrant)
  }

  /** Ends a turn. */
  leave(): void {
    this.#free++
    if (this.#waiting.size === 0 || this.#isNextDue) return
    this.#isNextDue = true
    // Not at once: if several callers are interrupted together, none of them is started in the place of another.
    queueMicrotask(() => this.#next())
  }

  #next(): void {
    this.#isNextDue = false
    for (const entrant of this.#waiting) {
      if (this.#free === 0) return
      this.#waiting.delete(entrant)
      this.#free--
      entrant.start()
    }
  }
}
