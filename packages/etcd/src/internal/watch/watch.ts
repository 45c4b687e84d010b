/**
 * The watches of a client: many on one stream, which is opened again whenever it breaks.
 *
 * This file is the edge between Effect and the synchronous parts: `watchState.ts` (one watch), `watchStream.ts` (one
 * stream) and `watchPool.ts` (all of them). Two fibers serve all watches of a client: one opens streams, one looks
 * after them once a second while there is something to look after.
 *
 * A stream that is silent without being closed is found in two ways: a server that owes an answer to a create and says
 * nothing for some seconds is given up here, and a link that is dead while nothing is owed is found by the pings of the
 * connection (gRPC keepalive), which an etcd whose process hangs does not answer either. A member without a leader ends
 * its streams by itself, since they are opened with `hasleader`.
 */
import * as Check from "@effect-kv/core/Check"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import type * as Watch from "@effect-kv/core/Watch"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import type { Connection, StreamFailure, WatchStream as RawStream } from "../rpc/connection.ts"
import { type Store, storeReplaced } from "../wire/decoded.ts"
import { defaultLimits, type Limits } from "./watchBuffer.ts"
import { WatchPool } from "./watchPool.ts"
import * as watchProgress from "./watchProgress.ts"
import type { Lane, WatchState } from "./watchState.ts"
import type { WatchStream } from "./watchStream.ts"
import type { Response } from "./watchWire.ts"

/** How watches are opened. */
export interface Watches {
  /** Opens a watch: resolves when the store has confirmed it. Closing the scope ends it, on the server too. */
  readonly open: (request: Watch.WatchRequest) => Effect.Effect<Watch.Watcher, KvError.KvError, Scope.Scope>
}

export interface Options {
  /** How long `open` may take where no `Deadline` is set. Default: 5 seconds. */
  readonly deadline?: Duration.Duration | undefined
  readonly limits?: Limits | undefined
  /** How often the server is asked how far the watches are. Default: every minute. */
  readonly progressInterval?: Duration.Input | undefined
}

/** How often watches were carried on over a new stream, counted by stream. */
export const reconnects: Metric.Counter<number> = Metric.counter("kv_etcd_watch_reconnects", {
  description: "How often the watches of a client went on over a new stream",
  incremental: true
})

export const make = Effect.fnUntraced(
  function*(connection: Connection, options?: Options): Effect.fn.Return<Watches, never, Scope.Scope> {
    const context = yield* Effect.context()
    const needed = Latch.makeUnsafe()
    const ticking = Latch.makeUnsafe()
    const opened = Latch.makeUnsafe()
    const carried = new Map<WatchStream, Carried>()

    const pool = new WatchPool({
      limits: options?.limits ?? defaultLimits,
      store: connection.store,
      cancelFailure: connection.cancelFailure,
      release: (stream) => {
        const scope = detach(carried, stream)
        if (scope !== undefined) Effect.runForkWith(context)(Scope.close(scope, Exit.void))
      },
      wake: () => needed.openUnsafe(),
      startTicking: () => ticking.openUnsafe()
    })

    const { identity, suspicions } = connection.store
    const stopListening = [
      identity.onReplaced((replaced) => pool.storeReplaced(KvError.make(storeReplaced(replaced, "read")))),
      suspicions.onSettled((upTo) => pool.storeVerified(upTo))
    ]
    yield* Effect.addFinalizer(() => Effect.sync(() => stopListening.forEach((stop) => stop())))

    // The streams outlive this finalizer by nothing: whoever waits in `take` hears of it at once.
    yield* Effect.addFinalizer(() => {
      const scopes = [...carried.keys()].map((stream) => detach(carried, stream))
      pool.closeAll(closed)
      return Effect.forEach(scopes, (scope) => scope === undefined ? Effect.void : Scope.close(scope, Exit.void))
    })
    yield* Effect.forkScoped(Effect.andThen(connection.closed, Effect.sync(() => pool.closeAll(closed))))
    yield* Effect.forkScoped(openStreams(connection, pool, needed, opened, carried))
    yield* Effect.forkScoped(keepTicking(pool, ticking))
    yield* Effect.forkScoped(keepAsking(carried, opened, options?.progressInterval ?? "1 minute"))

    return { open: (request) => open(connection, pool, request, options?.deadline ?? Deadline.defaultDeadline) }
  }
)

const closed = KvError.make(new KvError.Closed({ message: "the client was closed" }))

// -----------------------------------------------------------------------------
// streams
// -----------------------------------------------------------------------------

/** What belongs to a stream of the pool. */
interface Carried {
  readonly raw: RawStream
  readonly scope: Scope.Closeable
  readonly stopListening: () => void
  /** Whether the answers of its server to progress requests can be relied on. */
  answersInOrder: boolean | undefined
}

const detach = (carried: Map<WatchStream, Carried>, stream: WatchStream): Scope.Closeable | undefined => {
  const entry = carried.get(stream)
  carried.delete(stream)
  entry?.stopListening()
  return entry?.scope
}

const openStreams = Effect.fnUntraced(
  function*(
    connection: Connection,
    pool: WatchPool,
    needed: Latch.Latch,
    opened: Latch.Latch,
    carried: Map<WatchStream, Carried>
  ) {
    while (true) {
      yield* needed.await
      const delay = pool.delay(yield* Random.next)
      if (delay > 0) yield* Effect.sleep(delay)
      const lane = pool.neededLane()
      if (lane === undefined) needed.closeUnsafe()
      else yield* openStream(connection, pool, lane, carried)
      if (carried.size > 0) opened.openUnsafe()
    }
  }
)

const openStream = (
  connection: Connection,
  pool: WatchPool,
  lane: Lane,
  carried: Map<WatchStream, Carried>
): Effect.Effect<void> =>
  Effect.uninterruptibleMask(Effect.fnUntraced(function*(restore) {
    const scope = yield* Scope.make()
    const options = pool.streamOptions(lane)
    const afterFailure = pool.lastFailure
    const result = yield* Effect.result(restore(Scope.provide(connection.openWatchStream(options), scope))).pipe(
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
    )
    if (Result.isFailure(result)) {
      yield* Scope.close(scope, Exit.void)
      pool.notOpened(result.failure)
      yield* Effect.logDebug("no watch stream could be opened", { reason: result.failure.reason._tag })
      return
    }
    const raw = result.success
    const stream = pool.opened(lane, raw.endpoint, options, (request) => raw.stream.write(request))
    // A message may be on its way already; it is delivered when this returns, and not before.
    carried.set(stream, {
      raw,
      scope,
      stopListening: listen(connection, pool, stream, raw),
      answersInOrder: undefined
    })
    if (afterFailure === undefined) return
    yield* Metric.update(reconnects, 1)
    yield* Effect.logDebug("watches go on over a new stream", { endpoint: raw.endpoint, after: afterFailure })
  }))

/** The thin edge to Node: what the raw stream emits goes to the pool. */
const listen = (connection: Connection, pool: WatchPool, stream: WatchStream, raw: RawStream): () => void => {
  const fail = (error: unknown): void => {
    connection.reportStreamFailure(raw.endpoint, error)
    const overflow = overflowOf(error)
    if (overflow !== undefined) pool.overflowed(stream, overflow)
    pool.failed(stream, connection.streamFailure(error, raw.endpoint))
  }
  let isListening = true
  const onData = (response: Response): void => {
    if (response.decodeEvents()) return stream.receive(response)
    // A large one. While its events are decoded turn by turn, what comes after it on this stream waits.
    raw.stream.pause()
    const goOn = (): void => {
      if (!isListening) return
      if (!response.decodeEvents()) return void setImmediate(goOn)
      stream.receive(response)
      if (isListening) raw.stream.resume()
    }
    setImmediate(goOn)
  }
  const onEnd = (): void => pool.failed(stream, ended(raw.endpoint))
  raw.stream.on("data", onData)
  raw.stream.on("error", fail)
  raw.stream.on("end", onEnd)
  raw.stream.on("close", onEnd)
  return () => {
    isListening = false
    raw.stream.off("data", onData)
    raw.stream.off("error", fail)
    raw.stream.off("end", onEnd)
    raw.stream.off("close", onEnd)
    // What still comes is thrown away, not kept for a reader.
    raw.stream.resume()
  }
}

/**
 * How many bytes a message had, if it was above `grpc.max_receive_message_length` of grpc-js, or above the 2 GiB that the
 * server's gRPC library can send. The server is not to blame.
 */
const overflowOf = (error: unknown): number | undefined => {
  const match = error instanceof Error
    ? /(?:Received|trying to send) message larger than max \((\d+) vs/.exec(error.message)
    : null
  return match === null ? undefined : Number(match[1])
}

const ended = (endpoint: string): StreamFailure => ({
  error: KvError.make(new KvError.Unavailable({ message: `${endpoint} ended the watch stream` })),
  isTransient: true,
  refreshToken: false
})

const keepTicking = Effect.fnUntraced(function*(pool: WatchPool, ticking: Latch.Latch) {
  while (true) {
    yield* ticking.await
    yield* Effect.sleep("1 second")
    if (!pool.tick()) ticking.closeUnsafe()
  }
})

/** Asks how far the watches are, while there are any. */
const keepAsking = Effect.fnUntraced(
  function*(carried: Map<WatchStream, Carried>, opened: Latch.Latch, interval: Duration.Input) {
    while (true) {
      yield* opened.await
      yield* Effect.sleep(interval)
      if (carried.size === 0) opened.closeUnsafe()
      for (const [stream, entry] of Array.from(carried)) {
        if (!stream.isLive) continue
        entry.answersInOrder ??= yield* Effect.match(entry.raw.status, {
          onSuccess: (status) => watchProgress.isTrusted(status, stream.memberId),
          onFailure: () => undefined
        })
        if (entry.answersInOrder === true) stream.askForProgress()
      }
    }
  }
)

// -----------------------------------------------------------------------------
// watches
// -----------------------------------------------------------------------------

const open = Effect.fnUntraced(
  function*(
    connection: Connection,
    pool: WatchPool,
    request: Watch.WatchRequest,
    defaultDeadline: Duration.Duration
  ) {
    const problem = Check.watch(request)
    if (problem !== undefined) return yield* KvError.fail(new KvError.InvalidRequest({ message: problem }))
    const deadline = (yield* Deadline.Deadline) ?? defaultDeadline
    yield* Effect.timeoutOrElse(mayStart(connection.store, request), {
      duration: deadline,
      orElse: () => KvError.fail(new KvError.Unavailable({ message: "watch: the store did not tell its revision" }))
    })
    const watch = yield* Effect.acquireRelease(
      Effect.sync(() => pool.open(request)),
      (watch) => Effect.sync(() => pool.close(watch, watchClosed))
    )
    yield* Effect.timeoutOrElse(confirmed(watch), {
      duration: deadline,
      orElse: () => KvError.fail(unconfirmed(pool, watch, connection.openingTroubles()))
    }).pipe(
      // The scope may go on for long after an `open` that failed or was interrupted.
      Effect.onError(() => Effect.sync(() => pool.close(watch, watchClosed)))
    )
    yield* traceReconnects(watch)
    return toWatcher(watch)
  }
)

/**
 * After a replacement, a start at a revision that the store has not reached is one of the old store's: the caller got it
 * before the replacement. The watch would wait for it, and miss everything.
 */
const mayStart = Effect.fnUntraced(
  function*({ identity, suspicions }: Store, { range, startRevision }: Watch.WatchRequest) {
    const isAhead = (): boolean => startRevision !== undefined && startRevision > identity.sent().revision + 1n
    if (identity.replaced === undefined || !isAhead()) return
    suspicions.readable ??= range
    yield* suspicions.checked
    if (isAhead()) return yield* KvError.fail(storeReplaced(identity.replaced, "read"))
  }
)

const watchClosed = KvError.make(new KvError.Closed({ message: "the scope of the watch was closed" }))

const confirmed = (watch: WatchState): Effect.Effect<void, KvError.KvError> =>
  Effect.callback((resume) => {
    const check = (): void => {
      if (watch.state._tag === "Ended" && watch.revision === undefined) resume(Effect.fail(watch.state.error))
      else if (watch.revision !== undefined) resume(Effect.void)
      else watch.onConfirmed = check
    }
    check()
    return Effect.sync(() => {
      watch.onConfirmed = undefined
    })
  })

const unconfirmed = (pool: WatchPool, watch: WatchState, opening: ReadonlyArray<string>): KvError.Reason => {
  const causes = new Set(pool.lastFailure === undefined ? opening : [pool.lastFailure, ...opening])
  const failure = causes.size === 0 ? "" : ` (${[...causes].join("; ")})`
  return watch.state._tag === "Creating"
    ? new KvError.DeadlineExceeded({
      message: `watch: ${watch.state.carrier.endpoint} did not confirm the watch before the deadline`
    })
    : new KvError.Unavailable({ message: `watch: no endpoint could take the watch before the deadline${failure}` })
}

const toWatcher = (watch: WatchState): Watch.Watcher => {
  // What is polled is gone from the buffer, and between two steps a fiber may give way and be interrupted there. So what was
  // polled is held until the step that hands it on. An error can be had again.
  let held: ReturnType<WatchState["poll"]>
  const hold = Effect.sync(() => {
    held ??= watch.poll()
  })
  const hand = Effect.sync(() => {
    const taken = held
    held = undefined
    return taken as Exclude<typeof taken, KvError.KvError | undefined>
  })
  const take: Watch.Watcher["take"] = Effect.suspend(() =>
    held === undefined && !watch.canPoll ? Effect.andThen(ready, take) : Effect.andThen(hold, given)
  )
  const takeLater: Watch.Watcher["take"] = Effect.andThen(Effect.yieldNow, take)
  const given: Watch.Watcher["take"] = Effect.suspend(() => {
    if (held === undefined) return watch.canPoll ? takeLater : take
    return KvError.isKvError(held) ? Effect.fail(held) : hand
  })
  const ready: Effect.Effect<void> = Effect.callback((resume) => {
    // The fiber may have given way since it looked.
    if (watch.canPoll) return resume(Effect.void)
    watch.onReady = () => resume(Effect.void)
    return Effect.sync(() => {
      watch.onReady = undefined
    })
  })
  return { revision: watch.revision ?? 0n, take, status: statusOf(watch) }
}

/** A slow reader of the status misses changes that are over, never the last one. */
const statusOf = (watch: WatchState): Stream.Stream<Watch.Status> =>
  Stream.callback<Watch.Status>(
    (queue) => {
      const listener = (status: Watch.Status | undefined): void => {
        if (status === undefined) Queue.endUnsafe(queue)
        else Queue.offerUnsafe(queue, status)
      }
      return Effect.acquireRelease(
        Effect.sync(() => {
          listener(watch.status)
          if (watch.status !== undefined) watch.statusListeners.add(listener)
        }),
        () => Effect.sync(() => watch.statusListeners.delete(listener))
      )
    },
    { bufferSize: 16, strategy: "sliding" }
  )

/** Puts reconnections of the watch on the span that it was opened in, or, once that has ended, on the one around it. */
const traceReconnects = (watch: WatchState): Effect.Effect<void> =>
  Effect.withFiber((fiber) =>
    Effect.matchEffect(Effect.currentSpan, {
      onFailure: () => Effect.void,
      onSuccess: (span) => Effect.sync(() => watch.statusListeners.add(spanEvents(span, fiber.getRef(Clock.Clock))))
    })
  )

const spanEvents = (openedIn: Tracer.Span, clock: Clock.Clock) => (status: Watch.Status | undefined): void => {
  if (status === undefined) return
  // The span of the call to open it (see core's `Tracing`) ends with that call, long before anything breaks.
  const span = notEnded(openedIn)
  span?.event(status._tag === "Live" ? "watch live" : "watch interrupted", clock.currentTimeNanosUnsafe(), {})
}

const notEnded = (span: Tracer.AnySpan | undefined): Tracer.Span | undefined => {
  if (span === undefined || span._tag !== "Span") return undefined
  return span.status._tag === "Started" ? span : notEnded(Option.getOrUndefined(span.parent))
}
