/**
 * One request to one endpoint: the edge to grpc-js, where callbacks become effects.
 *
 * A failure tells whether any of the request may have left this process. A call that is interrupted is cancelled at
 * once, and the interruption completes when that has taken effect.
 */
import type { SendControl } from "@effect-kv/core/SendControl"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import { type Failure, fromError, isAnswer, silent } from "./errors.ts"
import { patience, Traffic } from "./link.ts"
import type { Duplex, Unary } from "./services.ts"

/** What is known of a request that has no answer yet. */
export interface Attempt {
  /** Whether any of it may have left this process. Exact once the call has ended or was interrupted. */
  left: boolean
}

export const newAttempt = (): Attempt => ({ left: false })

/** Ends a call with a failure of these details. */
type Abort = (details: string) => void

/** What is under way, to be ended when the client is closed. */
export class Active {
  readonly #aborts = new Set<Abort>()
  #isClosed = false

  /** Whether the client is closed: then nothing may begin any more. */
  get isClosed(): boolean {
    return this.#isClosed
  }

  add(abort: Abort): void {
    this.#aborts.add(abort)
  }

  delete(abort: Abort): void {
    this.#aborts.delete(abort)
  }

  close(): void {
    this.#isClosed = true
    for (const abort of this.#aborts) abort("the client was closed")
  }
}

/** How a request is sent. */
export interface SendOptions {
  readonly token: string | undefined
  /** Ask the member to refuse at once, rather than to wait, while it knows no leader. */
  readonly hasLeader: boolean
  /** How many milliseconds the server has for it. */
  readonly timeout: number
  readonly active: Active
  /** What is in flight on the same connection. */
  readonly traffic: Traffic
  /** Whether the request may be sent again on another connection. */
  readonly isRepeatable: boolean
  /** Where the request is made for several callers. */
  readonly sendControl?: SendControl | undefined
}

/** Sends a request and waits for the answer. */
export const unary = <Request, Response>(
  service: grpc.Client,
  method: Unary<Request, Response>,
  request: Request,
  options: SendOptions,
  attempt: Attempt
): Effect.Effect<Response, Failure> =>
  Effect.callback<Response, Failure>((resume) => {
    if (options.active.isClosed) return resume(Effect.fail(neverBegun))
    if (options.sendControl?.isCancelled() === true) return resume(Effect.fail(calledOff))
    if (isShutDown(service)) return resume(Effect.fail(replaced))
    attempt.left = true
    const call = method.call(service, request, metadataOf(options), callOptions(options), (error, response) => {
      if (end.cancelled) return
      flight.end()
      if (error === null && response !== undefined) {
        options.traffic.heard()
        return resume(Effect.succeed(response))
      }
      const failure = failureOf(error, call, attempt)
      if (isAnswer(failure)) options.traffic.heard()
      resume(Effect.fail(failure))
    })
    const end = ending(call, attempt)
    const flight = inFlight(options, (details) => {
      flight.end()
      end.cancel(() => resume(Effect.fail(failureOf(aborted(details), call, attempt))))
    })
    return end.interrupt(flight.end)
  })

/** Asks for the health of the server, which every etcd tells, and what else may be there answers with an error. */
export const ping = (service: grpc.Client, active: Active): Effect.Effect<boolean> => {
  const check: Unary<Buffer, Buffer> = (request, metadata, options, callback) =>
    service.makeUnaryRequest("/grpc.health.v1.Health/Check", asItIs, asItIs, request, metadata, options, callback)
  const options = { token: undefined, hasLeader: false, timeout: 60_000, active, isRepeatable: true }
  return Effect.suspend(() =>
    // Not part of the line's own traffic: what is asked because of silence must not be asked about again.
    Effect.match(unary(service, check, Buffer.alloc(0), { ...options, traffic: new Traffic(() => 0) }, newAttempt()), {
      onSuccess: () => true,
      onFailure: isAnswer
    })
  )
}

const asItIs = (message: Buffer): Buffer => message

/** Opens a stream, sends one message, waits for one message, and ends the stream. */
export const exchange = <Request, Response>(
  service: grpc.Client,
  method: Duplex<Request, Response>,
  request: Request,
  options: SendOptions,
  attempt: Attempt
): Effect.Effect<Response, Failure> =>
  Effect.callback<Response, Failure>((resume) => {
    if (options.active.isClosed) return resume(Effect.fail(neverBegun))
    if (isShutDown(service)) return resume(Effect.fail(replaced))
    attempt.left = true
    const stream = method.call(service, metadataOf(options), callOptions(options))
    const end = ending(stream, attempt)
    const flight = inFlight(options, (details) => {
      flight.end()
      end.cancel(() => resume(Effect.fail(failureOf(aborted(details), stream, attempt))))
    })
    stream.on("error", (error: unknown) => {
      if (end.cancelled) return
      const failure = failureOf(error, stream, attempt)
      if (isAnswer(failure)) options.traffic.heard()
      resume(Effect.fail(failure))
    })
    // The stream may outlive its answer until the server has ended it too.
    stream.on("status", flight.end)
    stream.on("end", () => resume(Effect.fail(failureOf(endedEarly, stream, attempt))))
    stream.once("data", (response: Response) => {
      flight.answered()
      resume(Effect.succeed(response))
      stream.end()
    })
    stream.write(request)
    return end.interrupt(flight.end)
  })

/** Makes the call known to those who may have to end it: when the client is closed, or its connection is replaced. */
const inFlight = (options: SendOptions, abort: Abort) => {
  const { active, isRepeatable, traffic } = options
  active.add(abort)
  const pending = traffic.begin({ patience, isRepeatable, abort })
  return {
    end: (): void => {
      active.delete(abort)
      traffic.end(pending)
    },
    answered: (): void => {
      traffic.heard()
      traffic.end(pending)
    }
  }
}

/** Opens a stream and lets `onOpen` have it before anything can interrupt. Fails where it is known not to connect. */
export const open = <Request, Response>(
  service: grpc.Client,
  method: Duplex<Request, Response>,
  options: Omit<SendOptions, "timeout">,
  onOpen: (stream: grpc.ClientDuplexStream<Request, Response>) => Effect.Effect<void>
): Effect.Effect<grpc.ClientDuplexStream<Request, Response>, Failure> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.suspend(() => {
      if (options.active.isClosed) return Effect.fail(neverBegun)
      if (isShutDown(service)) return Effect.fail(replaced)
      const stream = method.call(service, metadataOf(options), {}).on("error", ignore)
      follow(stream, options.traffic)
      return Effect.andThen(onOpen(stream), restore(connected(service, stream)))
    })
  )

/**
 * How long a stream may be silent once the server was heard on it, in milliseconds. gRPC pings as often as this are
 * forbidden by etcd; a request that any server answers is not.
 */
const streamPatience = 5000

/** Makes the stream part of the traffic. Nothing was sent on it yet, so that no message can be lost to this listener. */
const follow = (stream: grpc.ClientDuplexStream<never, unknown>, traffic: Traffic): void => {
  const pending = traffic.begin({
    patience,
    isRepeatable: true,
    abort: (details) => void stream.destroy(Object.assign(new Error(details), aborted(details)))
  })
  const end = (): void => traffic.end(pending)
  stream.on("data", () => {
    pending.patience = streamPatience
    traffic.heard()
  })
  stream.on("status", end)
  stream.on("error", end)
  stream.on("close", end)
}

/** The stream, unless it cannot be connected: then it is about to say why. */
const connected = <Stream extends grpc.ClientDuplexStream<never, unknown>>(
  service: grpc.Client,
  stream: Stream
): Effect.Effect<Stream, Failure> =>
  service.getChannel().getConnectivityState(false) !== grpc.connectivityState.TRANSIENT_FAILURE
    ? Effect.succeed(stream)
    : Effect.callback((resume) => {
      const onError = (error: unknown): void =>
        resume(Effect.fail({ ...fromError(error), left: mayHaveBeenSent(stream) }))
      stream.once("error", onError)
      return Effect.sync(() => stream.off("error", onError))
    })

/** An `error` event that nobody listens to would end the process. */
const ignore = (): void => {}

const endedEarly = { code: grpc.status.UNAVAILABLE, details: "the server ended the stream before it answered" }
const neverBegun: Failure = { code: grpc.status.CANCELLED, details: "the client was closed", left: false }
const calledOff: Failure = { code: grpc.status.CANCELLED, details: "the call was called off", left: false }
const replaced: Failure = { code: grpc.status.UNAVAILABLE, details: silent, left: false }

/** Another connection may have taken the place of this one since it was chosen. grpc-js throws if it is used then. */
const isShutDown = (service: grpc.Client): boolean =>
  service.getChannel().getConnectivityState(false) === grpc.connectivityState.SHUTDOWN

const aborted = (details: string) => ({ code: grpc.status.UNAVAILABLE, details })

const failureOf = (error: unknown, call: Cancellable, attempt: Attempt): Failure => {
  const failure = fromError(error)
  attempt.left = mayHaveBeenSent(call, failure.code)
  return { ...failure, left: attempt.left }
}

/** The metadata that goes with every request. */
export const metadataOf = (options: Pick<SendOptions, "token" | "hasLeader">): grpc.Metadata => {
  const metadata = new grpc.Metadata()
  if (options.token !== undefined) metadata.set("token", options.token)
  if (options.hasLeader) metadata.set("hasleader", "true")
  return metadata
}

/**
 * grpc-js has a deadline too, but measures it by the wall clock. It comes after ours, as the server's. One that is further
 * away than timers can wait is none: grpc-js throws, in a turn of its own, if it cannot encode it.
 */
const callOptions = ({ timeout }: SendOptions): grpc.CallOptions => ({
  deadline: timeout > longestTimer ? Infinity : Date.now() + timeout + 1000
})

const longestTimer = 2 ** 31 - 1

/** What unary calls and streams of grpc-js have in common. */
interface Cancellable {
  cancel(): void
  getAuthContext?(): unknown
}

/**
 * Whether an HTTP/2 stream was made for a call that has ended.
 *
 * grpc-js answers `null` for the authentication context of a call for exactly as long as it has no HTTP/2 stream, also
 * on connections that are not encrypted. A version that does not know the question is taken to have sent the request,
 * and so is a call that grpc-js itself ended: see {@link ending}.
 */
export const mayHaveBeenSent = (call: Cancellable, code?: number): boolean =>
  code === grpc.status.DEADLINE_EXCEEDED || call.getAuthContext?.() !== null

/**
 * How a call is ended before it has an answer.
 *
 * It is cancelled twice, because of a gap in grpc-js: a call that is cancelled in the same turn of the event loop in
 * which it was started reports its end, but its HTTP/2 stream is made in a later microtask, where nothing would ever
 * cancel it. Only after the second time is it known whether there was one.
 */
const ending = (call: Cancellable, attempt: Attempt) => {
  const end = {
    cancelled: false,
    cancel: (onEnd: () => void): void => {
      end.cancelled = true
      call.cancel()
      setImmediate(() => {
        call.cancel()
        attempt.left = mayHaveBeenSent(call)
        onEnd()
      })
    },
    interrupt: (onEnd: () => void): Effect.Effect<void> =>
      Effect.callback<void>((resume) =>
        end.cancel(() => {
          onEnd()
          resume(Effect.void)
        })
      )
  }
  return end
}
