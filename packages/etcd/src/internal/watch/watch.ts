/**
 * The watches of a client. They share streams, which are opened again whenever they break.
 *
 * This file connects Effect to the synchronous parts: `watchState.ts` (one watch), `watchStream.ts` (one stream) and
 * `watchPool.ts` (all of them). All watches of a client share two fibers: one opens streams, the other checks them once
 * a second while there is something to check.
 *
 * A silent stream is detected in two ways. If a server owes a response to a create and sends nothing for some seconds,
 * the pool leaves the stream. If nothing is owed, the transport's pings detect the dead link or the hanging etcd
 * process. A member without a leader ends its streams by itself, because they are opened with `hasleader`.
 */
import * as Check from "@effect-kv/core/Check"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as LastFailure from "@effect-kv/core/LastFailure"
import * as Tracing from "@effect-kv/core/Tracing"
import type * as Watch from "@effect-kv/core/Watch"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import * as attemptSpan from "../rpc/attemptSpan.ts"
import type { Connection } from "../rpc/connection.ts"
import type { Failure } from "../rpc/errors.ts"
import type { StreamFailure, WatchStream as RawStream } from "../rpc/watchStreams.ts"
import { type Store, storeReplaced } from "../wire/decoded.ts"
import { defaultLimits, type Limits } from "./watchBuffer.ts"
import * as watchMetrics from "./watchMetrics.ts"
import { WatchPool } from "./watchPool.ts"
import * as watchProgress from "./watchProgress.ts"
import type { Lane, WatchState } from "./watchState.ts"
import type { WatchStream } from "./watchStream.ts"
import type { Response } from "./watchWire.ts"

/** The entry point for opening watches. */
export interface Watches {
  /**
   * Opens a watch, and returns once the store has confirmed it. Closing the scope ends the watch, also on the server.
   */
  readonly open: (request: Watch.WatchRequest) => Effect.Effect<Watch.Watcher, KvError.KvError, Scope.Scope>
}

export interface Options {
  /** How long `open` may take if no `Deadline` is set. Default: 5 seconds. */
  readonly deadline?: Duration.Duration | undefined
  readonly limits?: Limits | undefined
  /** The interval between progress requests. Default: one minute. */
  readonly progressInterval?: Duration.Input | undefined
  /** Default: nothing is measured. */
  readonly meter?: KvMetrics.Meter | undefined
}

export const make = Effect.fnUntraced(
  function*(connection: Connection, options?: Options): Effect.fn.Return<Watches, never, Scope.Scope> {
    const context = yield* Effect.context()
    const needed = Latch.makeUnsafe()
    const ticking = Latch.makeUnsafe()
    const opened = Latch.makeUnsafe()
    const attachments = new Map<WatchStream, Attachment>()

    const pool = new WatchPool({
      limits: options?.limits ?? defaultLimits,
      store: connection.store,
      cancelFailure: connection.cancelFailure,
      release: (stream) => {
        const scope = detach(attachments, stream)
        if (scope !== undefined) Effect.runForkWith(context)(Scope.close(scope, Exit.void))
      },
      wake: () => needed.openUnsafe(),
      startTicking: () => ticking.openUnsafe()
    })

    if (options?.meter !== undefined) yield* watchMetrics.observe(options.meter, pool)
    const reconnects = options?.meter?.counter(KvMetrics.watchReconnects)
    const { identity, suspicions } = connection.store
    const stopListening = [
      identity.onReplaced((replaced) => pool.storeReplaced(KvError.make(storeReplaced(replaced, "read")))),
      suspicions.onSettled((upTo) => pool.storeVerified(upTo)),
      connection.onEndpointRemoved(() => {
        for (const [stream, { raw }] of Array.from(attachments)) {
          if (raw.isEndpointRemoved()) pool.endpointRemoved(stream)
        }
      })
    ]
    yield* Effect.addFinalizer(() => Effect.sync(() => stopListening.forEach((stop) => stop())))

    // Closes all streams before it returns, so that pending `take`s fail immediately.
    yield* Effect.addFinalizer(() => {
      const scopes = [...attachments.keys()].map((stream) => detach(attachments, stream))
      pool.closeAll(closed)
      return Effect.forEach(scopes, (scope) => scope === undefined ? Effect.void : Scope.close(scope, Exit.void))
    })
    yield* Effect.forkScoped(Effect.andThen(connection.closed, Effect.sync(() => pool.closeAll(closed))))
    yield* Effect.forkScoped(openStreams(connection, pool, needed, opened, attachments, reconnects))
    yield* Effect.forkScoped(keepTicking(pool, ticking))
    yield* Effect.forkScoped(keepRequestingProgress(attachments, opened, options?.progressInterval ?? "1 minute"))

    return { open: (request) => open(connection, pool, request, options?.deadline ?? Deadline.defaultDeadline) }
  }
)

const closed = KvError.make(new KvError.Closed({ message: "the client was closed" }))

// -----------------------------------------------------------------------------
// streams
// -----------------------------------------------------------------------------

/** A stream of the pool with its transport stream and scope. */
interface Attachment {
  readonly raw: RawStream
  readonly scope: Scope.Closeable
  readonly stopListening: () => void
  /** Whether the server's progress responses can be trusted. `undefined` until that is known. */
  respondsInOrder: boolean | undefined
}

const detach = (attachments: Map<WatchStream, Attachment>, stream: WatchStream): Scope.Closeable | undefined => {
  const entry = attachments.get(stream)
  attachments.delete(stream)
  entry?.stopListening()
  return entry?.scope
}

const openStreams = Effect.fnUntraced(
  function*(
    connection: Connection,
    pool: WatchPool,
    needed: Latch.Latch,
    opened: Latch.Latch,
    attachments: Map<WatchStream, Attachment>,
    reconnects: KvMetrics.Counter | undefined
  ) {
    const clock = yield* Clock.Clock
    const now = (): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const openedAt = new Map<Lane, number>()
    const age = (lane: Lane): number => now() - (openedAt.get(lane) ?? Number.NEGATIVE_INFINITY)
    while (true) {
      yield* needed.await
      const [lane] = pool.neededLanes().sort((a, b) => age(b) - age(a))
      if (lane === undefined) {
        needed.closeUnsafe()
        continue
      }
      // The wait limits how often streams are opened, so it counts from the opening of the lane's last stream.
      const delay = pool.delay(yield* Random.next) - age(lane)
      if (delay > 0) yield* Effect.sleep(delay)
      if (!pool.neededLanes().includes(lane)) continue
      openedAt.set(lane, now())
      yield* openStream(connection, pool, lane, attachments, reconnects)
      if (attachments.size > 0) opened.openUnsafe()
    }
  }
)

const openStream = (
  connection: Connection,
  pool: WatchPool,
  lane: Lane,
  attachments: Map<WatchStream, Attachment>,
  reconnects: KvMetrics.Counter | undefined
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
      const { reason } = result.failure
      pool.notOpened(result.failure, reason._tag === "Unauthenticated" && connection.passwordMayChange)
      yield* Effect.logDebug("no watch stream could be opened", { reason: result.failure.reason._tag })
      return
    }
    const raw = result.success
    const stream = pool.opened(lane, raw.endpoint, options, raw.send)
    // No message is lost: one that has already arrived is delivered only after this returns.
    attachments.set(stream, {
      raw,
      scope,
      stopListening: listen(connection, pool, stream, raw),
      respondsInOrder: undefined
    })
    if (raw.isEndpointRemoved()) pool.endpointRemoved(stream)
    if (afterFailure === undefined) return
    reconnects?.add()
    yield* Effect.logDebug("watches resumed on a new stream", { endpoint: raw.endpoint, after: afterFailure })
  }))

/** The edge to the transport: passes responses and the end of the raw stream to the pool. */
const listen = (connection: Connection, pool: WatchPool, stream: WatchStream, raw: RawStream): () => void => {
  const fail = (failure: Failure): void => {
    connection.reportStreamFailure(raw.endpoint, failure)
    const overflow = overflowOf(failure)
    if (overflow !== undefined) pool.overflowed(stream, overflow)
    pool.failed(stream, connection.streamFailure(failure, raw.endpoint))
  }
  let isListening = true
  const onResponse = (response: Response): void => {
    if (response.decodeEvents()) return stream.receive(response)
    // A large response is decoded in turns of the event loop. Meanwhile the stream is paused, to keep the order.
    raw.pause()
    const continueDecoding = (): void => {
      if (!isListening) return
      if (!response.decodeEvents()) return void setImmediate(continueDecoding)
      stream.receive(response)
      if (isListening) raw.resume()
    }
    setImmediate(continueDecoding)
  }
  const stop = raw.listen({
    onResponse,
    onEnd: (failure) => failure === undefined ? pool.failed(stream, ended(raw.endpoint)) : fail(failure)
  })
  return () => {
    isListening = false
    stop()
  }
}

/**
 * The size of a message above the channel's limit, or above the 2 GiB limit of the server's gRPC library. Neither is
 * the endpoint's fault.
 */
const overflowOf = ({ details, messageSize }: Failure): number | undefined => {
  if (messageSize !== undefined) return messageSize
  const match = /trying to send message larger than max \((\d+) vs/.exec(details)
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

/** Requests the progress of the watches periodically while there are any. */
const keepRequestingProgress = Effect.fnUntraced(
  function*(attachments: Map<WatchStream, Attachment>, opened: Latch.Latch, interval: Duration.Input) {
    while (true) {
      yield* opened.await
      yield* Effect.sleep(interval)
      if (attachments.size === 0) opened.closeUnsafe()
      for (const [stream, entry] of Array.from(attachments)) {
        if (!stream.isLive) continue
        entry.respondsInOrder ??= yield* Effect.match(entry.raw.status, {
          onSuccess: (status) => watchProgress.isTrusted(status, stream.memberId),
          onFailure: () => undefined
        })
        if (entry.respondsInOrder === true) stream.requestProgress()
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
      orElse: () => KvError.fail(new KvError.Unavailable({ message: "watch: the store did not report its revision" }))
    })
    const watch = yield* Effect.acquireRelease(
      Effect.sync(() => pool.open(request)),
      (watch) => Effect.sync(() => pool.close(watch, watchClosed))
    )
    const inTime = Effect.timeoutOrElse(confirmed(watch), {
      duration: deadline,
      orElse: () => KvError.fail(unconfirmed(pool, watch, connection.openingErrors()))
    })
    const call: LastFailure.Call = {
      get lastFailure() {
        return notYetConfirmed(pool, watch, connection.openingErrors())
      }
    }
    yield* LastFailure.during(inTime, call).pipe(
      // The scope may stay open long after an `open` that failed or was interrupted.
      Effect.onError(() => Effect.sync(() => pool.close(watch, watchClosed)))
    )
    yield* traceReconnects(watch)
    return toWatcher(watch)
  }
)

/**
 * After a replacement, a start revision that the new store has not reached comes from the old store. The watch would
 * wait for that revision, and miss every event before it.
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

const causesOf = (pool: WatchPool, opening: ReadonlyArray<string>): string =>
  [...new Set(pool.lastFailure === undefined ? opening : [pool.lastFailure, ...opening])].join("; ")

/** Why a watch has not been confirmed yet; `undefined` if nothing is known but that it waits. */
const notYetConfirmed = (
  pool: WatchPool,
  watch: WatchState,
  opening: ReadonlyArray<string>
): KvError.Reason | undefined => {
  if (watch.state._tag === "Creating") {
    return new KvError.DeadlineExceeded({ message: `${watch.state.carrier.endpoint} has not confirmed the watch` })
  }
  const causes = causesOf(pool, opening)
  return causes === "" ? undefined : new KvError.Unavailable({ message: causes })
}

const unconfirmed = (pool: WatchPool, watch: WatchState, opening: ReadonlyArray<string>): KvError.Reason => {
  const causes = causesOf(pool, opening)
  const failure = causes === "" ? "" : ` (${causes})`
  return watch.state._tag === "Creating"
    ? new KvError.DeadlineExceeded({
      message: `watch: ${watch.state.carrier.endpoint} did not confirm the watch before the deadline`
    })
    : new KvError.Unavailable({ message: `watch: no endpoint could take the watch before the deadline${failure}` })
}

const toWatcher = (watch: WatchState): Watch.Watcher => {
  // Polling removes events from the buffer, and the fiber can be interrupted before it returns them. `held` keeps them
  // until the step that returns them. An error can be polled repeatedly.
  let held: ReturnType<WatchState["poll"]>
  const hold = Effect.sync(() => {
    held ??= watch.poll()
  })
  const handOver = Effect.sync(() => {
    const taken = held
    held = undefined
    return taken as Exclude<typeof taken, KvError.KvError | undefined>
  })
  const take: Watch.Watcher["take"] = Effect.suspend(() =>
    held === undefined && !watch.canPoll ? Effect.andThen(ready, take) : Effect.andThen(hold, deliver)
  )
  const takeLater: Watch.Watcher["take"] = Effect.andThen(Effect.yieldNow, take)
  const deliver: Watch.Watcher["take"] = Effect.suspend(() => {
    if (held === undefined) return watch.canPoll ? takeLater : take
    return KvError.isKvError(held) ? Effect.fail(held) : handOver
  })
  const ready: Effect.Effect<void> = Effect.callback((resume) => {
    // The watch may have become ready while the fiber had yielded.
    if (watch.canPoll) return resume(Effect.void)
    watch.onReady = () => resume(Effect.void)
    return Effect.sync(() => {
      watch.onReady = undefined
    })
  })
  return { revision: watch.revision ?? 0n, take, status: statusOf(watch) }
}

/** A slow reader of the status misses intermediate changes, but never the last one. */
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

/** Records interruptions on the span in which the watch was opened, or on its parent once that has ended. */
const traceReconnects = (watch: WatchState): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    // Not `Effect.currentSpan`: where there is none, it makes an error, with a stack trace, for each watch.
    const span = Option.getOrUndefined(Context.getOption(fiber.context, Tracer.ParentSpan))
    if (span?._tag === "Span") watch.statusListeners.add(spanEvents(span, fiber.getRef(Clock.Clock)))
    if (watch.state._tag === "Live") attemptSpan.name(Tracing.spanOf(fiber), watch.state.carrier.endpoint)
    return Effect.void
  })

const spanEvents = (openedIn: Tracer.Span, clock: Clock.Clock) => (status: Watch.Status | undefined): void => {
  if (status === undefined) return
  // The span of the call that opened the watch (see core's `Tracing`) ends with that call, long before a reconnect.
  const span = notEnded(openedIn)
  span?.event(status._tag === "Live" ? "watch live" : "watch interrupted", clock.currentTimeNanosUnsafe(), {})
}

const notEnded = (span: Tracer.AnySpan | undefined): Tracer.Span | undefined => {
  if (span === undefined || span._tag !== "Span") return undefined
  return span.status._tag === "Started" ? span : notEnded(Option.getOrUndefined(span.parent))
}
