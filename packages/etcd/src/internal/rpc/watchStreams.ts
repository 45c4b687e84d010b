/**
 * Raw watch streams: opened on a connected endpoint, and what their failures mean.
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

/** Which endpoint a stream is to be opened on. */
export interface StreamOptions {
  /** Endpoints to be used only if no other can be reached: those the last stream failed on. */
  readonly avoid?: ReadonlySet<string> | undefined
  /** Get a new token first: the server rejected the one the last stream had (see {@link StreamFailure}). */
  readonly refreshToken?: boolean | undefined
  /** Take responses of any size. Others fail the stream above 24 MiB. */
  readonly whole?: boolean | undefined
}

/** Receives what arrives on a watch stream. */
export interface WatchListener {
  readonly onResponse: (response: Response) => void
  /** The end: `undefined` for status `OK`. */
  readonly onEnd: (failure: errors.Failure | undefined) => void
}

/** A watch stream. Nothing has been sent on it yet, so that the server sends nothing either. */
export interface WatchStream {
  readonly send: (request: Request) => void
  readonly pause: () => void
  readonly resume: () => void
  /** Sets the listener. An end that came before is reported at once. Returns the way to stop listening. */
  readonly listen: (listener: WatchListener) => () => void
  /** The address of the endpoint it leads to. */
  readonly endpoint: string
  /** Asks the endpoint which version of etcd it runs. */
  readonly status: Effect.Effect<MemberStatus, errors.Failure>
}

/** What an error of a stream, or the reason for which the server cancelled a watch, means. */
export interface StreamFailure {
  readonly error: KvError.KvError
  /** Whether to open again: the failure is the connection's or the server's state, not the request's. */
  readonly isTransient: boolean
  /** Whether the token was rejected: open again with `refreshToken`. */
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
   * Opens a watch stream to an endpoint that is connected, within the current deadline, with metadata `hasleader` and the
   * token. Closing the scope cancels it.
   */
  readonly open: (options?: StreamOptions) => Effect.Effect<WatchStream, KvError.KvError, Scope.Scope>
  /** What keeps the stream that is being opened, as far as is known: endpoints and causes. */
  readonly lastErrors: LastErrors
}

export const make = (context: retry.RetryContext): Opener => {
  let lastErrors = noErrors
  const open = Effect.fnUntraced(
    function*(options?: StreamOptions): Effect.fn.Return<WatchStream, KvError.KvError, Scope.Scope> {
      const scope = yield* Effect.scope
      if (options?.refreshToken === true) context.tokens.rejected(context.tokens.current()?.token)
      // No call waits for it to the end, and the next attempt may be at another endpoint: a long deadline does not apply.
      const deadline = Duration.min(context.deadline, Deadline.defaultDeadline)
      const opening = retry.run<WatchStream>(context, {
        name: "watch",
        onBegin: (current) => lastErrors = current,
        policy: "read",
        hasLeader: true,
        avoid: options?.avoid,
        channel: options?.whole === true ? "wholeWatches" : "watches",
        send: (attempt) => openOn(attempt, scope)
      })
      return yield* Effect.ensuring(
        Effect.provideService(opening, Deadline.Deadline, deadline),
        Effect.sync(() => lastErrors = noErrors)
      )
    }
  )
  return { open, lastErrors: () => lastErrors() }
}

const openOn = (attempt: rpc.Attempt, scope: Scope.Scope): Effect.Effect<WatchStream, errors.Failure> => {
  const received = new Received()
  const { channel, endpoint, metadata, progress } = attempt
  const opening = channel.stream("/etcdserverpb.Watch/Watch", received, {
    metadata,
    sensitive: rpc.sensitive,
    progress,
    isRepeatable: true
  })
  return Effect.map(Effect.provideService(opening, Scope.Scope, scope), (stream): WatchStream => ({
    send: (request) => void stream.send(encodeRequest(request)),
    pause: stream.pause.bind(stream),
    resume: stream.resume.bind(stream),
    listen: received.listen,
    endpoint: endpoint.address,
    status: statusOf(attempt)
  }))
}

/** On the channel of calls: on that of watches, a catch-up would hold up the response. */
const statusOf = (attempt: rpc.Attempt): WatchStream["status"] =>
  rpc.send({
    ...attempt,
    channel: attempt.endpoint.channels.calls,
    remaining: () => 5000,
    progress: { delivery: "NotSent" }
  }, {
    path: "/etcdserverpb.Maintenance/Status",
    request: Buffer.alloc(0),
    decode: decodeStatus
  })

/** What arrives on a stream, kept until there is a listener for it. */
class Received implements Transport.StreamListener {
  #listener: WatchListener | undefined
  #ended: { readonly failure: errors.Failure | undefined } | undefined

  readonly listen = (listener: WatchListener): () => void => {
    this.#listener = listener
    const ended = this.#ended
    // Not now: the caller does not have what this returns yet.
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
