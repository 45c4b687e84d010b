/**
 * The deadlines of a channel's calls: one timer for all of them.
 *
 * Most calls end long before their deadline. The timer stays armed for the earliest deadline so far, and moves only
 * for an earlier one, so most calls cost no timer operation.
 */

/** A call with a deadline. */
export interface Expiring {
  /** In milliseconds of `performance.now()`. */
  readonly endsAt: number
  readonly expire: () => void
}

export class Deadlines {
  readonly #pending = new Set<Expiring>()
  #timer: ReturnType<typeof setTimeout> | undefined
  #dueAt = Number.POSITIVE_INFINITY
  #isClosed = false

  add(call: Expiring): void {
    this.#pending.add(call)
    if (call.endsAt < this.#dueAt) this.#arm(call.endsAt)
  }

  delete(call: Expiring): void {
    this.#pending.delete(call)
  }

  /** Stops the timer. No deadline expires after this. */
  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#pending.clear()
  }

  #arm(dueAt: number): void {
    if (this.#isClosed) return
    clearTimeout(this.#timer)
    this.#dueAt = dueAt
    this.#timer = setTimeout(this.#onTimer, Math.min(Math.max(Math.ceil(dueAt - performance.now()), 0), longestTimer))
  }

  readonly #onTimer = (): void => {
    this.#timer = undefined
    const now = performance.now()
    // After an event-loop stall, timers run before the received data is read.
    setImmediate(() => this.#expire(now))
  }

  #expire(now: number): void {
    this.#dueAt = Number.POSITIVE_INFINITY
    for (const call of this.#pending) {
      if (call.endsAt > now) continue
      this.#pending.delete(call)
      call.expire()
    }
    let next = Number.POSITIVE_INFINITY
    for (const { endsAt } of this.#pending) next = Math.min(next, endsAt)
    if (next < this.#dueAt) this.#arm(next)
  }
}

/** The limit of Node's timers. They fire immediately above it. */
const longestTimer = 2 ** 31 - 1
