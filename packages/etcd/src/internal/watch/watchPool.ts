/**
 * The watches of one client and the streams that they are on: which watch goes on which stream, and what becomes of it when
 * a stream breaks.
 *
 * The watches of a `Lane` share one stream. New ones go to the current stream of their lane; another is opened when that breaks, and also when the server no
 * longer accepts its token: etcd looks at a stream's token only when a watch is created, so the watches that are on the old
 * stream stay there. Synchronous, like the states of the watches; opening streams and waiting is done outside.
 */
import * as KvError from "@effect-kv/core/KvError"
import type { WatchRequest } from "@effect-kv/core/Watch"
import type { StreamFailure, StreamOptions } from "../rpc/watchStreams.ts"
import type { Store } from "../wire/decoded.ts"
import type { Limits } from "./watchBuffer.ts"
import { type Known, type Lane, WatchState } from "./watchState.ts"
import { type IdChoice, type Owner, WatchStream } from "./watchStream.ts"
import type { Request } from "./watchWire.ts"

/** What the pool needs from outside. */
export interface Environment {
  readonly limits: Limits
  readonly store: Store
  readonly cancelFailure: (reason: string, endpoint?: string) => StreamFailure
  /** Ends the stream, which the pool has given up. */
  readonly release: (stream: WatchStream) => void
  /** There are watches without a stream: see {@link WatchPool.neededLane}. */
  readonly wake: () => void
  /** There is something to look after: see {@link WatchPool.tick}. */
  readonly startTicking: () => void
}

/** How many ticks a stream may be silent while it owes an answer. */
const silentTicksAllowed = 2

/** How many it may be silent for while watches are live on it: a large response may be on its way. Pings find dead links. */
const silentTicksOfLive = 60

/** How many ticks a stream may be behind the store without a linearizable read that tells whether its member lags. */
const unverifiedTicksAllowed = 5

/** How many ticks a stream must have lasted for its opening to count as a success. */
const ticksOfSuccess = 2

/** Up to this size a response of few revisions is taken as a whole. */
const wholeBytes = 64 * 1024 * 1024

/** How many ticks a stream is kept for the next watch after the last one has gone. */
const idleTicksAllowed = 1

/** Milliseconds before a stream is opened: none the first time, then about these, doubling up to the last. */
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
   * Whether the server is to split the responses of the `large` lane, so that of many large events few are in memory at a
   * time. Not if they are small: etcd's way to split them takes time quadratic in the number of events (16,000 small ones,
   * which fill a fragment: 1.7 seconds).
   */
  #fragment = false
  #mustFragment = false
  #closed: KvError.KvError | undefined
  /** Why there is no stream, or was none before the one that nobody has been confirmed on yet. */
  lastFailure: string | undefined

  constructor(environment: Environment) {
    this.#environment = environment
  }

  // ---------------------------------------------------------------------------
  // watches
  // ---------------------------------------------------------------------------

  open(request: WatchRequest): WatchState {
    const watch = new WatchState(request, this.#environment.limits, this.#wantCarrier)
    if (this.#closed !== undefined) {
      watch.close(this.#closed)
    } else {
      this.#watches.add(watch)
      this.#wantCarrier(watch)
    }
    return watch
  }

  /** Ends a watch, here and on the server. */
  close(watch: WatchState, error: KvError.KvError): void {
    watch.close(error)
    this.#watches.delete(watch)
    this.#waiting.delete(watch)
    if (this.#streams.size > 0) this.#environment.startTicking()
  }

  /** Ends everything. */
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

  /** For which lane a stream is to be opened. */
  neededLane(): Lane | undefined {
    if (this.#closed !== undefined) return undefined
    for (const [watch, lane] of this.#waiting) {
      if (watch.state._tag === "Waiting") return lane
      this.#waiting.delete(watch)
    }
    return undefined
  }

  /** Milliseconds to wait before it is opened, given a random number from 0 to 1. */
  delay(random: number): number {
    if (this.#failures === 0) return 0
    return Math.min(backoff.first * 2 ** (this.#failures - 1), backoff.longest) * (0.5 + random / 2)
  }

  streamOptions(lane: Lane): StreamOptions {
    return { avoid: new Set(this.#avoid), refreshToken: this.#refreshToken, whole: lane === "large" }
  }

  /** A stream was opened for the lane with the options. */
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

  /** None could be opened. */
  notOpened(error: KvError.KvError): void {
    this.#failures++
    this.lastFailure = error.reason.message
    for (const watch of Array.from(this.#waiting.keys())) {
      if (error.isRetryable) {
        watch.stillWaiting(error.reason.message)
      } else {
        this.#waiting.delete(watch)
        watch.end(error)
      }
    }
  }

  // ---------------------------------------------------------------------------
  // what happens to streams
  // ---------------------------------------------------------------------------

  /** A response of so many bytes was more than the stream takes. Its watches go to one that takes all. */
  overflowed(stream: WatchStream, bytes: number): void {
    // Of one revision, or a few, the events are many and small: values are limited by the size of a request.
    const isOfMany = stream.watches.some((watch) => watch.isBehind(this.#known.revision))
    this.#fragment = bytes > wholeBytes || isOfMany
    // The server cannot send it as a whole.
    this.#mustFragment = stream.lane === "large"
    for (const watch of stream.watches) watch.isLarge = true
  }

  splitsSlowly(stream: WatchStream): boolean {
    if (this.#mustFragment) return false
    this.#fragment = false
    this.failed(stream, {
      error: KvError.make(new KvError.Unavailable({ message: "a large response is received again as a whole" })),
      isTransient: true,
      refreshToken: false
    })
    return true
  }

  /** The stream broke, or is given up. Its watches wait for another one. */
  failed(stream: WatchStream, failure: StreamFailure): void {
    if (!this.#streams.delete(stream)) return
    this.#retire(stream, failure)
    this.lastFailure = failure.error.reason.message
    this.#avoid.add(stream.endpoint)
    this.#environment.release(stream)
    const isTooLarge = failure.error.reason._tag === "RequestTooLarge"
    const largest = isTooLarge ? stream.largestUnanswered() : undefined
    for (const watch of stream.end()) {
      // A server that is asked for too much at once ends the whole stream. One watch alone is to blame for that.
      if (failure.isTransient || isTooLarge && watch !== largest) watch.lost(failure.error.reason.message)
      else watch.end(failure.error)
      if (watch.state._tag === "Waiting") this.#wantCarrier(watch)
    }
  }

  /**
   * The store was replaced: no stream is of the one that is there now, or none is known to be. Watches that depend on a
   * revision of the old store end; others begin on a new stream.
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

  /** The store was the same at all suspicions up to this one. */
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

  refused(stream: WatchStream, watch: WatchState, reason: string): void {
    const failure = this.#environment.cancelFailure(reason, stream.endpoint)
    // A token that is refused though it is new will not be accepted the next time.
    if (!failure.isTransient || failure.refreshToken && stream.hasNewToken && !stream.hasConfirmed) {
      watch.end(failure.error)
      return
    }
    watch.lost(failure.error.reason.message)
    if (failure.refreshToken) this.#retire(stream, failure)
    else this.failed(stream, failure)
    if (watch.state._tag === "Waiting") this.#wantCarrier(watch)
  }

  confused(stream: WatchStream, message: string): void {
    const error = KvError.make(new KvError.Unavailable({ message: `${stream.endpoint}: ${message}` }))
    this.failed(stream, { error, isTransient: true, refreshToken: false })
  }

  /** New watches go elsewhere. */
  #retire(stream: WatchStream, failure: StreamFailure): void {
    if (failure.refreshToken) this.#refreshToken = true
    if (!this.#leaveLane(stream)) return
    this.#failures++
  }

  /** What waits for an answer goes elsewhere; what is live on the stream stays. */
  #passBy(stream: WatchStream): void {
    this.#leaveLane(stream)
    this.#avoid.add(stream.endpoint)
    for (const watch of stream.takeUnanswered()) {
      watch.lost(`${stream.endpoint}: did not answer`)
      if (watch.state._tag === "Waiting") this.#wantCarrier(watch)
    }
  }

  /** Looks after the streams, about once a second. Returns whether there is anything to come back for. */
  tick(): boolean {
    for (const stream of Array.from(this.#streams)) {
      if (stream.hasConfirmed && ++stream.ticks === ticksOfSuccess) this.#failures = 0
      if (stream.isUnverified) {
        if (++stream.unverifiedTicks > unverifiedTicksAllowed) {
          this.confused(stream, "is behind, and no member could tell why")
        }
      } else if (stream.awaitsAnswer && ++stream.silentTicks > silentTicksAllowed) {
        if (stream.isLive && stream.silentTicks <= silentTicksOfLive) this.#passBy(stream)
        else this.confused(stream, "did not answer")
      } else if (stream.isEmpty && !stream.awaitsAnswer && ++stream.idleTicks > idleTicksAllowed) {
        this.#discard(stream)
      }
    }
    return Array.from(this.#streams).some((stream) =>
      stream.isEmpty || stream.awaitsAnswer || stream.isUnverified ||
      stream.hasConfirmed && stream.ticks < ticksOfSuccess
    )
  }

  /** Ends a stream that nobody needs. */
  #discard(stream: WatchStream): void {
    this.#streams.delete(stream)
    this.#leaveLane(stream)
    stream.end()
    this.#environment.release(stream)
  }

  /** Takes no more watches. Whether it did before. */
  #leaveLane(stream: WatchStream): boolean {
    return this.#current.get(stream.lane) === stream && this.#current.delete(stream.lane)
  }
}
