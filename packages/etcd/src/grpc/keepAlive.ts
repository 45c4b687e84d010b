/**
 * The keep-alive of a connection: pings that detect a dead peer, and an earlier suspicion.
 *
 * A peer is suspect if a call is pending and the peer stays silent twice for `suspectAfter / 2`: before a ping and
 * after it. It is dead after `time` plus `timeout` of silence, with a ping. A slow server responds to pings, so a slow
 * call alone causes neither. A slow link does not either: while bytes arrive, even of an incomplete message, the peer
 * is not silent.
 *
 * Servers count pings (Go's: more than two that come too early, with nothing sent by the server in between, end the
 * connection). Hence the minimum interval, and few pings on a connection without streams: before a call after a long
 * silence, and after a call that ended without a response.
 */
import { replaced } from "./status.ts"

/** In milliseconds: see `ChannelOptions`. */
export interface KeepAliveOptions {
  readonly time: number
  readonly timeout: number
  readonly minimumInterval: number
  readonly suspectAfter: number
  readonly checkIdleAfter: number
}

/**
 * The pace of a channel's pings, and the wait for their responses.
 *
 * The interval grows each time a server closes a connection for too many pings. The wait grows after each false alarm: on a
 * starved machine everything takes long, and a second connection does not help.
 */
export class PingPace {
  #factor = 1
  #falseAlarms = 0
  #falseAlarmAt = 0

  /** How many times longer than usual to wait before a peer is suspect. */
  get patience(): number {
    if (performance.now() - this.#falseAlarmAt > falseAlarmsCountFor) this.#falseAlarms = 0
    return 2 ** this.#falseAlarms
  }

  /** A suspect peer has responded after all. */
  falseAlarm(): void {
    this.#falseAlarms = Math.min(this.patience === 1 ? 1 : this.#falseAlarms + 1, mostFalseAlarms)
    this.#falseAlarmAt = performance.now()
  }

  get factor(): number {
    return this.#factor
  }

  slowDown(): void {
    this.#factor = Math.min(this.#factor * 2, 64)
  }
}

/** The connection, as its keep-alive sees it. */
export interface Pinged {
  /** Sends a ping, and calls back when the response arrives. */
  readonly ping: (onResponse: () => void) => void
  /** How many bytes have been received so far. */
  readonly bytesRead: () => number
  readonly onSuspect: () => void
  /** Called when a suspect peer has sent data. */
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
  /** The opening time of the oldest call that still expects a response, or ended without one. */
  #awaitingSince: number | undefined
  #bytesRead = 0
  /** The time at which another connection replaced this one. */
  #replacedAt: number | undefined
  #pingedAt: number | undefined
  #lastPingAt = Number.NEGATIVE_INFINITY
  #receivedSincePing = true
  /** Whether a call was opened since the last ping. */
  #openedSincePing = false
  /** Early pings since the last data of a stream was received. */
  #earlyPings = 0
  #isSuspect = false
  #isPostponed = false
  #isStopped = false

  constructor(options: KeepAliveOptions, pace: PingPace, pinged: Pinged) {
    this.#options = options
    this.#pace = pace
    this.#pinged = pinged
  }

  get isSuspect(): boolean {
    return this.#isSuspect
  }

  /** Whether the connection must be checked before its next call. */
  get isStale(): boolean {
    return performance.now() - this.#receivedAt >= this.#options.checkIdleAfter
  }

  /** Reports an opened call, which expects a response, or an opened stream, which does not. */
  opened(expectsResponse: boolean): void {
    if (expectsResponse) {
      this.#calls += 1
      this.#openedSincePing = true
      this.#awaitingSince ??= performance.now()
    } else {
      this.#streams += 1
    }
    this.#armWithin(expectsResponse ? this.#options.suspectAfter / 2 : this.#silenceAllowed)
  }

  ended(expectsResponse: boolean): void {
    if (expectsResponse) this.#calls -= 1
    else this.#streams -= 1
  }

  /** Reports the first response of a stream, which may be silent from now on. */
  responded(): void {
    this.#calls -= 1
    this.#streams += 1
    if (this.#calls === 0) this.#awaitingSince = undefined
    this.#armWithin(this.#silenceAllowed)
  }

  /** Reports that data of a stream was received. */
  received(): void {
    this.#receivedSincePing = true
    this.#earlyPings = 0
    this.#bytesRead = this.#pinged.bytesRead()
    this.#noteData()
  }

  #noteData(): void {
    const now = performance.now()
    this.#receivedAt = now
    this.#awaitingSince = this.#calls > 0 ? now : undefined
    this.#recover()
  }

  /** Reports that another connection has replaced this one, which then ends after a short silence. */
  endIfSilent(): void {
    this.#replacedAt = performance.now()
    this.#armWithin(lastChance)
  }

  /** Whether the server tolerates another ping. */
  get mayCheck(): boolean {
    return this.#isPingDue || this.#earlyPings < mostEarlyPings
  }

  /** Pings now, unless a ping is in flight. */
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
    if (!this.#isPingDue) this.#earlyPings += 1
    this.#pingedAt = now
    this.#lastPingAt = now
    this.#receivedSincePing = false
    this.#openedSincePing = false
    this.#bytesRead = this.#pinged.bytesRead()
    this.#pinged.ping(() => {
      this.#pingedAt = undefined
      this.#noteData()
    })
  }

  #recover(): void {
    if (!this.#isSuspect) return
    this.#isSuspect = false
    this.#pace.falseAlarm()
    this.#pinged.onRecovered()
  }

  /** Whether the server will tolerate another ping. */
  get #isPingDue(): boolean {
    const { minimumInterval } = this.#options
    return this.#receivedSincePing || performance.now() - this.#lastPingAt >= minimumInterval * this.#pace.factor
  }

  /** An early ping is justified for a call that began after the last ping. */
  get #mayPing(): boolean {
    return this.#isPingDue || this.#openedSincePing && this.#earlyPings < mostEarlyPings
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
    // After an event-loop stall, timers run before the received data is read.
    const isLate = performance.now() - this.#dueAt > this.#options.suspectAfter / 4
    // Once: on a busy machine every timer is late.
    this.#isPostponed = isLate && !this.#isPostponed
    if (this.#isPostponed) this.#armWithin(this.#options.suspectAfter / 8)
    else this.#look(performance.now())
  }

  /** Records received data other than complete frames of streams, such as a part of a large message. */
  #noteBytes(): void {
    const bytes = this.#pinged.bytesRead()
    if (bytes === this.#bytesRead) return
    this.#bytesRead = bytes
    this.#noteData()
  }

  #look(now: number): void {
    const { suspectAfter, time, timeout } = this.#options
    const half = suspectAfter / 2
    this.#noteBytes()
    const silent = now - this.#receivedAt
    if (this.#replacedAt !== undefined && now - Math.max(this.#receivedAt, this.#replacedAt) >= lastChance - 2) {
      return this.#pinged.onDead(replaced)
    }
    if (this.#pingedAt === undefined) {
      const silentFor = this.#awaitingSince === undefined ? 0 : Math.min(silent, now - this.#awaitingSince)
      // A timer may be early by a fraction of a millisecond.
      const isDue = silentFor >= half - 2 || this.#isOpen && silent >= this.#silenceAllowed - 2
      if (isDue && this.#mayPing) this.#ping(now)
    } else {
      const silentFor = Math.min(silent, now - this.#pingedAt)
      if (silentFor >= timeout - 2 && silent >= time + timeout - 2) {
        return this.#pinged.onDead(`no response to a ping within ${timeout} ms`)
      }
      if (!this.#isSuspect && silentFor >= half * this.#pace.patience - 2) {
        this.#isSuspect = true
        this.#pinged.onSuspect()
      }
    }
    if (this.#pingedAt !== undefined || this.#awaitingSince !== undefined) this.#armWithin(half)
    else if (this.#replacedAt !== undefined) this.#armWithin(lastChance)
    else if (this.#isOpen) this.#armWithin(Math.max(this.#receivedAt + this.#silenceAllowed - now, half))
  }

  get #isOpen(): boolean {
    return this.#calls + this.#streams > 0
  }
}

/** In milliseconds. */
const falseAlarmsCountFor = 60_000

/** Up to this many false alarms double the wait each. */
const mostFalseAlarms = 3

/**
 * How many early pings servers tolerate. One more is allowed, because two pings can arrive closer than they were sent.
 */
const mostEarlyPings = 1

/** How long a replaced connection with calls may be silent, in milliseconds. */
const lastChance = 2000

/** The limit of Node's timers. They fire immediately above it. */
const longestTimer = 2 ** 31 - 1
