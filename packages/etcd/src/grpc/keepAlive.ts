/**
 * A connection's keep-alive: pings that find a dead peer, and a suspicion before that.
 *
 * A peer is suspect when calls are in flight, nothing has been received for `suspectAfter / 2`, and a ping has stayed
 * unanswered for as long again. It is dead when a ping stays unanswered for `timeout`. A slow server answers pings, so that
 * a slow call alone is no reason for either.
 *
 * Servers count pings (Go's: more than two that come too early, with nothing sent by the server in between, end the
 * connection). Hence the minimum interval, and no pings on a connection without streams but the one before a call.
 */

/** In milliseconds: see `ChannelOptions`. */
export interface KeepAliveOptions {
  readonly time: number
  readonly timeout: number
  readonly minimumInterval: number
  readonly suspectAfter: number
  readonly checkIdleAfter: number
}

/** How often all connections of a channel ping. Slower after each one that a server has closed for too many pings. */
export class PingPace {
  #factor = 1

  get factor(): number {
    return this.#factor
  }

  slowDown(): void {
    this.#factor = Math.min(this.#factor * 2, 64)
  }
}

/** The connection, as its keep-alive sees it. */
export interface Pinged {
  /** Sends a ping; calls back when it is answered. */
  readonly ping: (onAnswer: () => void) => void
  readonly onSuspect: () => void
  /** The peer was suspect, and something has been received. */
  readonly onRecovered: () => void
  readonly onDead: (problem: string) => void
}

export class KeepAlive {
  readonly #options: KeepAliveOptions
  readonly #pace: PingPace
  readonly #pinged: Pinged
  #timer: ReturnType<typeof setTimeout> | undefined
  #dueAt = 0
  #receivedAt = performance.now()
  #calls = 0
  #streams = 0
  /** Since when a call has been in flight at any time. */
  #expectingSince = 0
  #pingedAt: number | undefined
  #lastPingAt = Number.NEGATIVE_INFINITY
  #receivedSincePing = true
  #isSuspect = false
  #isStopped = false

  constructor(options: KeepAliveOptions, pace: PingPace, pinged: Pinged) {
    this.#options = options
    this.#pace = pace
    this.#pinged = pinged
  }

  get isSuspect(): boolean {
    return this.#isSuspect
  }

  /** Whether the connection has to be checked before it carries a call. */
  get isStale(): boolean {
    return performance.now() - this.#receivedAt >= this.#options.checkIdleAfter
  }

  /** A call, which expects an answer, or a stream, which does not, was opened. */
  opened(expectsAnswer: boolean): void {
    if (expectsAnswer) {
      if (this.#calls++ === 0) this.#expectingSince = performance.now()
    } else {
      this.#streams += 1
    }
    this.#armWithin(expectsAnswer ? this.#options.suspectAfter / 2 : this.#silenceAllowed)
  }

  ended(expectsAnswer: boolean): void {
    if (expectsAnswer) this.#calls -= 1
    else this.#streams -= 1
  }

  /** Something of a stream was received. */
  received(): void {
    this.#receivedAt = performance.now()
    this.#receivedSincePing = true
    this.#recover()
  }

  /** Pings now, unless a ping is unanswered already. */
  check(): void {
    if (this.#pingedAt === undefined) this.#ping(performance.now())
    this.#armWithin(this.#options.suspectAfter / 2)
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  get #silenceAllowed(): number {
    return this.#options.time * this.#pace.factor
  }

  #ping(now: number): void {
    this.#pingedAt = now
    this.#lastPingAt = now
    this.#receivedSincePing = false
    this.#pinged.ping(() => {
      this.#pingedAt = undefined
      this.#receivedAt = performance.now()
      this.#recover()
    })
  }

  #recover(): void {
    if (!this.#isSuspect) return
    this.#isSuspect = false
    this.#pinged.onRecovered()
  }

  get #mayPing(): boolean {
    const { minimumInterval } = this.#options
    return this.#receivedSincePing || performance.now() - this.#lastPingAt >= minimumInterval * this.#pace.factor
  }

  #armWithin(millis: number): void {
    if (this.#isStopped) return
    const dueAt = performance.now() + millis
    if (this.#timer !== undefined) {
      if (this.#dueAt <= dueAt) return
      clearTimeout(this.#timer)
    }
    this.#dueAt = dueAt
    this.#timer = setTimeout(this.#onTimer, Math.min(millis, longestTimer))
  }

  readonly #onTimer = (): void => {
    this.#timer = undefined
    // After an event-loop stall, timers run before what has arrived meanwhile is read.
    if (performance.now() - this.#dueAt > this.#options.suspectAfter / 4) {
      this.#armWithin(this.#options.suspectAfter / 8)
    } else {
      this.#look(performance.now())
    }
  }

  #look(now: number): void {
    const half = this.#options.suspectAfter / 2
    if (this.#pingedAt === undefined) {
      const silent = now - this.#receivedAt
      const waited = Math.min(silent, now - this.#expectingSince)
      // A timer may be early by a fraction of a millisecond.
      const isDue = this.#calls > 0 && waited >= half - 2 || this.#isOpen && silent >= this.#silenceAllowed - 2
      if (isDue && this.#mayPing) this.#ping(now)
    } else {
      const unanswered = now - this.#pingedAt
      if (unanswered >= this.#options.timeout - 2) {
        return this.#pinged.onDead(`no answer to a ping within ${this.#options.timeout} ms`)
      }
      if (!this.#isSuspect && unanswered >= half - 2 && this.#receivedAt < this.#pingedAt) {
        this.#isSuspect = true
        this.#pinged.onSuspect()
      }
    }
    if (this.#pingedAt !== undefined || this.#calls > 0) this.#armWithin(half)
    else if (this.#isOpen) this.#armWithin(Math.max(this.#receivedAt + this.#silenceAllowed - now, half))
  }

  get #isOpen(): boolean {
    return this.#calls + this.#streams > 0
  }
}

/** What Node's timers can wait for; they fire at once if they are to wait longer. */
const longestTimer = 2 ** 31 - 1
