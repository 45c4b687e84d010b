/**
 * An RPC as a value: its method, its encoded request, and the decoder of its response.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import { failure, Status } from "../../grpc/status.ts"
import type * as Transport from "../../grpc/Transport.ts"
import type { Sent } from "../store/storeIdentity.ts"
import * as attemptSpan from "./attemptSpan.ts"
import type { Endpoint } from "./endpoints.ts"

/** A request of one message with a response of one message. */
export interface Rpc<out A> {
  /** For example `/etcdserverpb.KV/Range`. */
  readonly path: string
  readonly request: Buffer
  readonly decode: (message: Buffer) => A
  /** See `Transport.CallOptions`. */
  readonly endAfterResponse?: boolean
}

/** One attempt of a call: its endpoint, and what is known about its delivery. */
export interface Attempt {
  readonly endpoint: Endpoint
  /** The channel of the request: watch streams and calls use different ones. */
  readonly channel: Transport.Channel
  /** The user's token, and whether the member needs a leader. */
  readonly metadata: Readonly<Record<string, string>>
  /** Milliseconds left for the attempt. `undefined` means no limit. */
  readonly remaining: () => number | undefined
  /** Milliseconds until the attempt is late: see `Transport.CallOptions`. */
  readonly lateAfter: number | undefined
  /** The response to a late attempt. It is awaited instead of sending the request. */
  readonly pending?: Effect.Effect<Buffer, Transport.Failure> | undefined
  /** What was known about the store when the request was sent. */
  known?: Sent
  readonly isRepeatable: boolean
  readonly isCancelled: (() => boolean) | undefined
  readonly progress: Transport.Progress
  /** The span of the call, of which the attempt becomes a child; `undefined` without a tracer. */
  readonly span?: Tracer.Span | undefined
}

/** Names of metadata that HTTP/2 must never index. */
export const sensitive = ["token", "traceparent"]

/** The metadata of a request. `hasleader` makes a member without a leader reject it at once. */
export const metadataOf = (token: string | undefined, hasLeader: boolean): Readonly<Record<string, string>> => {
  if (token === undefined) return hasLeader ? leaderOnly : nothing
  return hasLeader ? { hasleader: "true", token } : { token }
}

const leaderOnly = { hasleader: "true" }
const nothing = {}

/** Sends an RPC, or awaits a late response, and decodes the response. */
export const send = <A>(attempt: Attempt, rpc: Rpc<A>): Effect.Effect<A, Transport.Failure> =>
  attempt.span === undefined || attempt.pending !== undefined
    ? sendNow(attempt, rpc)
    : attemptSpan.around(
      attempt.span,
      attempt.endpoint.address,
      rpc.path,
      (traceparent) => sendNow({ ...attempt, metadata: { ...attempt.metadata, traceparent } }, rpc)
    )

const sendNow = <A>(attempt: Attempt, rpc: Rpc<A>): Effect.Effect<A, Transport.Failure> => {
  const on: Transport.OnOutcome<A, Transport.Failure> = {
    onSuccess: (message) => decoded(rpc, message),
    onFailure: (failure) => Exit.fail(withMessageSize(rpc, failure))
  }
  return attempt.pending !== undefined ? Effect.matchEffect(attempt.pending, on) : attempt.channel.unaryMatch(
    rpc.path,
    rpc.request,
    {
      metadata: attempt.metadata,
      sensitive: attempt.metadata["token"] === undefined && attempt.span === undefined ? undefined : sensitive,
      timeout: attempt.remaining(),
      lateAfter: attempt.lateAfter,
      progress: attempt.progress,
      isRepeatable: attempt.isRepeatable,
      isCancelled: attempt.isCancelled,
      endAfterResponse: rpc.endAfterResponse
    },
    on
  )
}

/**
 * Notes the size of a message that a proxy did not take from the server: the response to a request that was executed.
 *
 * A Go server rejects a request that is too large with the same words. Only the size distinguishes the two.
 */
const withMessageSize = ({ request }: Rpc<unknown>, failure: Transport.Failure): Transport.Failure => {
  const size = /grpc: received message larger than max \((\d+) vs/.exec(failure.details)?.[1]
  return size === undefined || Number(size) === request.length ? failure : { ...failure, messageSize: Number(size) }
}

/** The server has executed the request even if its response cannot be decoded. */
const decoded = <A>(rpc: Rpc<A>, message: Buffer): Exit.Exit<A, Transport.Failure> => {
  try {
    return Exit.succeed(rpc.decode(message))
  } catch (error) {
    const details = `the response cannot be decoded: ${(error as Error).message}`
    return Exit.fail(failure(Status.INTERNAL, details, "Sent"))
  }
}
