/**
 * The watches of one client and their streams: which watch is on which stream, and what happens to it when a stream
 * breaks.
 *
 * The watches of a `Lane` share one stream, the current one. Another stream replaces it when it breaks, or when the
 * server rejects its token. etcd checks a stream's token only when a watch is created, so existing watches stay on the
 * old stream. The pool is synchronous, like the states of the watches. `watch.ts` opens streams and waits.
 */
import * as KvError from "@effect-kv/core/KvError"
import type { WatchRequest } from "@effect-kv/core/Watch"
import type { StreamFailure, StreamOptions } from "../rpc/watchStreams.ts"
import type { Store } from "../wire/decoded.ts"
import type { Limits } from "./watchBuffer.ts"
import { type Known, type Lane, WatchState } from "./watchState.ts"
import { type IdChoice, type Owner, WatchStream } from "./watchStream.ts"
import type { Request } from "./watchWire.ts"

/** The functions that the pool needs from `watch.ts`. */
export interface Environment {
  readonly limits: Limits
  readonly store: Store
  readonly cancelFailure: (reason: string, endpoint?: string) => StreamFailure
  /** Ends the stream, which the pool no longer uses. */
  readonly release: (stream: WatchStream) => void
  /** Called when watches have no stream: see {@link WatchPool.neededLanes}. */
  readonly wake: () => void
  /** Called when streams need checks: see {@link WatchPool.tick}. */
  readonly startTicking: () => void
}

/** How many ticks a stream may be silent while it owes a response. */
const silentTicksAllowed = 2

/** The same while watches are live on it, because a large response may be in flight. Pings detect dead links. */
const silentTicksOfLive = 60

/** How many ticks a stream may be behind while no linearizable read finds out whether its member lags. */
const unverifiedTicksAllowed = 5

/** How many ticks a stream must last to count as a success. */
const ticksOfSuccess = 2

/** A response of few revisions is received whole up to this size. */
const wholeBytes = 64 * 1024 * 1024

/** How many ticks a stream without watches is kept for the next watch. */
const idleTicksAllowed = 1

/**
 * Milliseconds from the opening of a lane's stream to that of the next: none the first time, then `first`, doubling up
 * to `longest`, with jitter.
 */
const backoff = { first: 25, longest: 1000 }

export class WatchPool implements Owner {
  readonly #environment: Environment
  readonly #watches = new Set<WatchState>()
  readonly #streams = new Set<WatchStream>()
  /** Watches whose lane has no stream. */
  readonly #waiting = new Map<WatchState, Lane>()
  readonly #current = new Map<Lane, WatchStream>()
  readonly #avoid = new Set<string>()
  readonly #known: Known = { revision: 0n }
  readonly #idChoices = new Map<string, IdChoice>()
  #refreshToken = false
  #failures = 0
  /**
   * Whether the server splits the responses of the `large` lane, so that only a part of many large events is in memory
   * at once. Not for small events: etcd's splitting takes time quadratic in the number of events (1.7 s for the 16,000
   * small events that fill a fragment).
   */
  #fragment = false
  #mustFragment = false
  #closed: KvError.KvError | undefined
  /** Why there is no stream, or why there was none before the current one, until a watch is confirmed on that. */
  lastFailure: string | undefined

  constructor(environment: Environment) {
    this.#environment = environment
  }

  // ---------------------------------------------------------------------------
  // metrics
  // ---------------------------------------------------------------------------

  /** How many open watches satisfy the condition. */
  count(condition: (watch: WatchState) => boolean): number {
    let count = 0
    for (const watch of this.#watches) if (condition(watch)) count++
    return count
  }

  /** How many revisions the open watch that is furthest behind has not received completely. */
  lag(): bigint {
    // The client's calls and other watches may have seen more than the streams' headers. A watch may wait for a future
    // revision, which says nothing about the store.
    const called = this.#environment.store.identity.sent().revision
    const highest = this.#known.revision > called ? this.#known.revision : called
    let largest = 0n
    for (const { next, state } of this.#watches) {
      if (next === undefined || state._tag === "Ended") continue
      const lag = highest - (next - 1n)
      if (lag > largest) largest = lag
    }
    return largest
  }

  /** The size of the events that no consumer has taken. */
  bufferedBytes(): number {
    let bytes = 0
    for (const watch of this.#watches) bytes += watch.bufferedBytes
    return bytes
  }

  // ---------------------------------------------------------------------------
  // watches
  // ---------------------------------------------------------------------------

  open(request: WatchRequest): WatchState {
    const watch = new WatchState(request, this.#environment.limits, this.#wantCarrier)
    if (this.#closed !== undefined) {
      watch.close(this.#closed)
    } else {
      // What happened to the watches before this one does not concern it.
      if (this.#watches.size === 0) this.lastFailure = undefined
      this.#watches.add(watch)
      this.#wantCarrier(watch)
    }
    return watch
  }

  /** Ends a watch, also on the server. */
  close(watch: WatchState, error: KvError.KvError): void {
    watch.close(error)
    this.#watches.delete(watch)
    this.#waiting.delete(watch)
    if (this.#streams.size > 0) this.#environment.startTicking()
  }

  /** Ends all watches and streams. */
  closeAll(error: KvError.KvError): void {
    this.#closed = error
    const streams = [...this.#streams]
    this.#streams.clear()
    this.#current.clear()
    for (const stream of streams) {
      stream.end()
      this.#environment.release(stream)
    }
    const watches = [...this.#watches]
    this.#watches.clear()
    this.#waiting.clear()
    for (const watch of watches) watch.close(error)
  }

  readonly #wantCarrier = (watch: WatchState): void => {
    const lane = watch.lane(this.#known)
    const stream = this.#current.get(lane)
    if (stream === undefined) {
      this.#waiting.set(watch, lane)
      this.#environment.wake()
    } else {
      this.#attach(stream, watch)
    }
  }

  #attach(stream: WatchStream, watch: WatchState): void {
    this.#environment.store.suspicions.readable ??= watch.request.range
    watch.attach(stream)
    this.#environment.startTicking()
  }

  // ---------------------------------------------------------------------------
  // opening streams
  // ---------------------------------------------------------------------------

  /** The lanes for which a stream must be opened. */
  neededLanes(): Array<Lane> {
    if (this.#closed !== undefined) return []
    const lanes = new Set<Lane>()
    for (const [watch, lane] of Array.from(this.#waiting)) {
      if (watch.state._tag === "Waiting") lanes.add(lane)
      else this.#waiting.delete(watch)
    }
    return [...lanes]
  }

  /** Milliseconds from the opening of a lane's stream to that of the next, from a random number between 0 and 1. */
  delay(random: number): number {
    if (this.#failures === 0) return 0
    return Math.min(backoff.first * 2 ** (this.#failures - 1), backoff.longest) * (0.5 + random / 2)
  }

  streamOptions(lane: Lane): StreamOptions {
    return { avoid: new Set(this.#avoid), refreshToken: this.#refreshToken, whole: lane === "large" }
  }

  /** Adds a stream that was opened for the lane with these options. */
  opened(lane: Lane, endpoint: string, options: StreamOptions, send: (request: Request) => void): WatchStream {
    const hasNewToken = options.refreshToken === true
    const stream = new WatchStream(
      {
        lane,
        endpoint,
        hasNewToken,
        fragment: lane === "large" && this.#fragment,
        known: this.#known,
        store: this.#environment.store,
        idChoices: this.#idChoices
      },
      send,
      this
    )
    this.#streams.add(stream)
    this.#current.set(lane, stream)
    for (const [watch, waitsFor] of Array.from(this.#waiting)) {
      if (waitsFor !== lane) continue
      this.#waiting.delete(watch)
      this.#attach(stream, watch)
    }
    return stream
  }

  /** Reports that no stream could be opened. `mayPass`: watches that the store has confirmed wait until it can be. */
  notOpened(error: KvError.KvError, mayPass = false): void {
    this.#failures++
    this.lastFailure = error.reason.message
    for (const watch of Array.from(this.#waiting.keys())) {
      if (error.isRetryable || mayPass && watch.revision !== undefined) {
        watch.stillWaiting(error.reason.message)
      } else {
        this.#waiting.delete(watch)
        watch.end(error)
      }
    }
  }

  // ---------------------------------------------------------------------------
  // stream events
  // ---------------------------------------------------------------------------

  /** Reports a response above the stream's size limit. Its watches move to a stream without that limit. */
  overflowed(stream: WatchStream, bytes: number): void {
    // A large response of few revisions has many small events, because a request limits the size of values.
    const isOfMany = stream.watches.some((watch) => watch.isBehind(this.#known.revision))
    this.#fragment = bytes > wholeBytes || isOfMany
    // The stream of the `large` lane has no limit of its own, so the server could not send the whole response.
    this.#mustFragment = stream.lane === "large"
    for (const watch of stream.watches) watch.isLarge = true
  }

  splitsSlowly(stream: WatchStream): boolean {
    if (this.#mustFragment) return false
    this.#fragment = false
    this.failed(stream, {
      error: KvError.make(new KvError.Unavailable({ message: "a large response is requested again as a whole" })),
      isTransient: true,
      refreshToken: false
    })
    return true
  }

  /** Reports that the stream broke or is abandoned. Its watches wait for another stream. */
  failed(stream: WatchStream, failure: StreamFailure): void {
    if (!this.#streams.delete(stream)) return
    this.#retire(stream, failure)
    this.lastFailure = failure.error.reason.message
    this.#avoid.add(stream.endpoint)
    this.#environment.release(stream)
    const isTooLarge = failure.error.reason._tag === "RequestTooLarge"
    const largest = isTooLarge ? stream.largestPending() : undefined
    for (const watch of stream.end()) {
      // A server ends the whole stream if one request is too large. Only the largest pending request can be the cause.
      if (failure.isTransient || isTooLarge && watch !== largest) watch.lost(failure.error.reason.message)
      else watch.end(failure.error)
      if (watch.state._tag === "Waiting") this.#wantCarrier(watch)
    }
  }

  /** Ends a stream whose endpoint was removed. Its watches resume on another stream at once. */
  endpointRemoved(stream: WatchStream): void {
    if (!this.#streams.delete(stream)) return
    this.#leaveLane(stream)
    this.#environment.release(stream)
    this.lastFailure = `${stream.endpoint} was removed from the endpoints`
    for (const watch of stream.end()) {
      watch.lost(this.lastFailure)
      if (watch.state._tag === "Waiting") this.#wantCarrier(watch)
    }
  }

  /**
   * Ends every stream, because none is known to belong to the new store. Watches that depend on a revision of the old
   * store end too. The others continue on a new stream.
   */
  storeReplaced(error: KvError.KvError): void {
    const streams = [...this.#streams]
    this.#streams.clear()
    this.#current.clear()
    this.#known.revision = 0n
    for (const stream of streams) {
      stream.end()
      this.#environment.release(stream)
    }
    for (const watch of Array.from(this.#watches)) {
      const isWaiting = this.#waiting.has(watch)
      watch.storeReplaced(error)
      if (watch.state._tag === "Waiting" && !isWaiting) this.#wantCarrier(watch)
    }
  }

  /** Reports that the store was the same at all suspicions up to this one. */
  storeVerified(upTo: number): void {
    for (const stream of Array.from(this.#streams)) stream.verified(upTo)
  }

  confirmed(stream: WatchStream): void {
    if (stream !== this.#current.get(stream.lane)) return
    this.#environment.startTicking()
    this.lastFailure = undefined
    this.#refreshToken = false
    this.#avoid.clear()
  }

  rejected(stream: WatchStream, watch: WatchState, reason: string): void {
    const failure = this.#environment.cancelFailure(reason, stream.endpoint)
    // A server that rejects a new token will reject the next one too.
    if (!failure.isTransient || failure.refreshToken && stream.hasNewToken && !stream.hasConfirmed) {
      watch.end(failure.error)
      return
    }
    watch.lost(failure.error.reason.message)
    if (failure.refreshToken) this.#retire(stream, failure)
    else this.failed(stream, failure)
    if (watch.state._tag === "Waiting") this.#wantCarrier(watch)
  }

  invalidResponse(stream: WatchStream, message: string): void {
    const error = KvError.make(new KvError.Unavailable({ message: `${stream.endpoint}: ${message}` }))
    this.failed(stream, { error, isTransient: true, refreshToken: false })
  }

  /** Stops adding watches to the stream. */
  #retire(stream: WatchStream, failure: StreamFailure): void {
    if (failure.refreshToken) this.#refreshToken = true
    if (!this.#leaveLane(stream)) return
    this.#failures++
  }

  /** Moves the pending watches to another stream. The live watches stay. */
  #movePending(stream: WatchStream): void {
    this.#leaveLane(stream)
    this.#avoid.add(stream.endpoint)
    for (const watch of stream.takePending()) {
      watch.lost(`${stream.endpoint}: did not respond`)
      if (watch.state._tag === "Waiting") this.#wantCarrier(watch)
    }
  }

  /** Checks the streams, about once a second. Returns whether another tick is needed. */
  tick(): boolean {
    for (const stream of Array.from(this.#streams)) {
      if (stream.hasConfirmed && ++stream.ticks === ticksOfSuccess) this.#failures = 0
      if (stream.isUnverified) {
        if (++stream.unverifiedTicks > unverifiedTicksAllowed) {
          this.invalidResponse(stream, "is behind, and no linearizable read could find out why")
        }
      } else if (stream.awaitsResponse && ++stream.silentTicks > silentTicksAllowed) {
        if (stream.isLive && stream.silentTicks <= silentTicksOfLive) this.#movePending(stream)
        else this.invalidResponse(stream, "did not respond")
      } else if (stream.isEmpty && !stream.awaitsResponse && ++stream.idleTicks > idleTicksAllowed) {
        this.#discard(stream)
      }
    }
    return Array.from(this.#streams).some((stream) =>
      stream.isEmpty || stream.awaitsResponse || stream.isUnverified ||
      stream.hasConfirmed && stream.ticks < ticksOfSuccess
    )
  }

  /** Ends a stream without watches. */
  #discard(stream: WatchStream): void {
    this.#streams.delete(stream)
    this.#leaveLane(stream)
    stream.end()
    this.#environment.release(stream)
  }

  /** Removes the stream from its lane. Returns whether it was the current one. */
  #leaveLane(stream: WatchStream): boolean {
    return this.#current.get(stream.lane) === stream && this.#current.delete(stream.lane)
  }
}
