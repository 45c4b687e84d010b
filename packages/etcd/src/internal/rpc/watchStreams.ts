/**
 * Raw watch streams: how they are opened on a connected endpoint, and how their failures are classified.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { failure, Status } from "../../grpc/status.ts"
import type * as Transport from "../../grpc/Transport.ts"
import { decodeResponse } from "../watch/watchDecode.ts"
import { encodeRequest } from "../watch/watchEncode.ts"
import type { Request, Response } from "../watch/watchWire.ts"
import { decodeStatus, type MemberStatus } from "../wire/statusCodec.ts"
import * as errors from "./errors.ts"
import * as retry from "./retry.ts"
import * as rpc from "./rpc.ts"
import { type LastErrors, noErrors, type Tokens } from "./tokens.ts"

/** Options for opening a stream. */
export interface StreamOptions {
  /** Endpoints to use only if no other is reachable: those on which recent streams failed. */
  readonly avoid?: ReadonlySet<string> | undefined
  /** Get a new token first, because the server rejected the last stream's token (see {@link StreamFailure}). */
  readonly refreshToken?: boolean | undefined
  /** Accept responses of any size. Otherwise a response above 24 MiB fails the stream. */
  readonly whole?: boolean | undefined
}

/** The receiver of a watch stream's responses. */
export interface WatchListener {
  readonly onResponse: (response: Response) => void
  /** The end: `undefined` for status `OK`. */
  readonly onEnd: (failure: errors.Failure | undefined) => void
}

/** A watch stream. The server sends nothing before the first request. */
export interface WatchStream {
  readonly send: (request: Request) => void
  readonly pause: () => void
  readonly resume: () => void
  /** Sets the listener, and returns a function that removes it. An earlier end of the stream is reported at once. */
  readonly listen: (listener: WatchListener) => () => void
  /** The address of its endpoint. */
  readonly endpoint: string
  /** Whether its endpoint was removed since. */
  readonly isEndpointRemoved: () => boolean
  /** Requests the endpoint's etcd version. */
  readonly status: Effect.Effect<MemberStatus, errors.Failure>
}

/** The classification of a stream's error, or of the reason for which the server cancelled a watch. */
export interface StreamFailure {
  readonly error: KvError.KvError
  /** Whether to open another stream: the cause is the connection or the server's state, not the request. */
  readonly isTransient: boolean
  /** Whether the token was rejected, so that the next stream needs `refreshToken`. */
  readonly refreshToken: boolean
}

export const streamFailure = (failure: errors.Failure, tokens: Tokens, endpoint = "watch"): StreamFailure => {
  const { kind, reason } = errors.classify(failure, endpoint)
  const refreshToken = kind === "TokenRejected" && tokens.hasCredentials
  return { error: KvError.make(reason), isTransient: kind === "Transient" || refreshToken, refreshToken }
}

/** The opening of watch streams. */
export interface Opener {
  /**
   * Opens a watch stream on a connected endpoint within the current deadline, with metadata `hasleader` and the
   * token. Closing the scope cancels it.
   */
  readonly open: (options?: StreamOptions) => Effect.Effect<WatchStream, KvError.KvError, Scope.Scope>
  /** The last errors of the stream that is being opened, with their endpoints. */
  readonly lastErrors: LastErrors
}

export const make = (context: retry.RetryContext): Opener => {
  let lastErrors = noErrors
  const open = Effect.fnUntraced(
    function*(options?: StreamOptions): Effect.fn.Return<WatchStream, KvError.KvError, Scope.Scope> {
      const scope = yield* Effect.scope
      if (options?.refreshToken === true) context.tokens.rejected(context.tokens.current()?.token)
      // A long deadline does not apply: no call waits for this one attempt, and the next may use another endpoint.
      const deadline = Duration.min(context.deadline, Deadline.defaultDeadline)
      const opening = retry.run<WatchStream, WatchStream>(context, {
        name: "watch",
        onBegin: (current) => lastErrors = current,
        policy: "read",
        hasLeader: true,
        avoid: options?.avoid,
        channel: options?.whole === true ? "wholeWatches" : "watches",
        send: (attempt) => openOn(attempt, scope),
        finish: Effect.succeed
      })
      return yield* Effect.ensuring(
        Effect.provideService(opening, Deadline.Deadline, deadline),
        Effect.sync(() => lastErrors = noErrors)
      )
    }
  )
  return { open, lastErrors: () => lastErrors() }
}

/**
 * How long to wait for a place within a server's limit on streams, in milliseconds, before another endpoint is tried.
 * Other streams may keep their places indefinitely.
 */
const longestOpening = 1000

const openOn = (attempt: rpc.Attempt, scope: Scope.Scope): Effect.Effect<WatchStream, errors.Failure> => {
  const received = new Received()
  const { channel, endpoint, metadata, progress } = attempt
  const opening = channel.stream("/etcdserverpb.Watch/Watch", received, {
    metadata,
    sensitive: rpc.sensitive,
    progress,
    isRepeatable: true,
    sendTimeout: Math.min(attempt.remaining() ?? longestOpening, longestOpening)
  })
  return Effect.map(Effect.provideService(opening, Scope.Scope, scope), (stream): WatchStream => ({
    send: (request) => void stream.send(encodeRequest(request)),
    pause: stream.pause.bind(stream),
    resume: stream.resume.bind(stream),
    listen: received.listen,
    endpoint: endpoint.address,
    isEndpointRemoved: () => endpoint.isRemoved,
    status: statusOf(attempt)
  }))
}

/** Uses the channel for calls, because a catch-up on a watch channel would delay the response. */
const statusOf = (attempt: rpc.Attempt): WatchStream["status"] =>
  rpc.send({
    ...attempt,
    channel: attempt.endpoint.channels.calls,
    remaining: () => 5000,
    lateAfter: undefined,
    progress: { delivery: "NotSent" }
  }, {
    path: "/etcdserverpb.Maintenance/Status",
    request: Buffer.alloc(0),
    decode: decodeStatus
  })

/** The receiving side of a stream, which keeps its end until there is a listener. */
class Received implements Transport.StreamListener {
  #listener: WatchListener | undefined
  #ended: { readonly failure: errors.Failure | undefined } | undefined

  readonly listen = (listener: WatchListener): () => void => {
    this.#listener = listener
    const ended = this.#ended
    // Deferred, because the caller does not have the returned function yet.
    if (ended !== undefined) queueMicrotask(() => this.#listener?.onEnd(ended.failure))
    return () => {
      this.#listener = undefined
    }
  }

  readonly onMessage = (message: Buffer): void => {
    const listener = this.#listener
    if (listener === undefined) return
    let response: Response
    try {
      response = decodeResponse(message)
    } catch (error) {
      return listener.onEnd(
        failure(Status.INTERNAL, `a watch response cannot be decoded: ${(error as Error).message}`, "Sent")
      )
    }
    listener.onResponse(response)
  }

  readonly onEnd = (failure: errors.Failure | undefined): void => {
    this.#ended = { failure }
    this.#listener?.onEnd(failure)
  }
}
