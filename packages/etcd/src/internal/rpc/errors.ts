/**
 * The classification of gRPC failures: the only place where etcd's codes and messages become reasons of `KvError`.
 *
 * A classification also says whether the request can have been applied, and whether another attempt can succeed. The
 * retry rule is in `retry.ts`. The texts are those of etcd's `api/v3rpc/rpctypes/error.go` (3.4 to 3.7).
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Option from "effect/Option"
import { replaced, Status as Code } from "../../grpc/status.ts"
import type { Failure } from "../../grpc/Transport.ts"

export type { Failure }

/** The classification of a failure. */
export interface Classification {
  /** The call's reason if the call ends with this failure and was not applied. */
  readonly reason: KvError.Reason
  /**
   * `Final`: another attempt fails as well. `Transient`: another attempt can succeed. `TokenRejected`: another attempt
   * with a new token can succeed.
   */
  readonly kind: "Final" | "Transient" | "TokenRejected"
  /** Whether it is certain that the request changed nothing. */
  readonly notApplied: boolean
  /** Whether other endpoints are preferred for a while. */
  readonly suspendEndpoint: boolean
  /** Whether the member said that it cannot serve. Another connection to the same address may lead to another member. */
  readonly reconnect: boolean
  /** Whether a member has responded: not a proxy, nor this client about a broken connection. */
  readonly isFromMember: boolean
}

/** Classifies a failure of a request to the endpoint. */
export const classify = (failure: Failure, endpoint: string): Classification => {
  const message = messageOf(failure, endpoint)
  const unsendable = failure.delivery === "NotSent" ? unsendables[failure.code] : undefined
  const notFromMember = { notApplied: true, reconnect: false, isFromMember: false }
  if (unsendable !== undefined) return { ...unsendable(message), ...notFromMember }
  if (failure.delivery !== "Sent") {
    return { ...unavailable(failure.code !== Code.DEADLINE_EXCEEDED)(message), ...notFromMember }
  }
  const known = rules.find((rule) => rule.code(failure.code) && failure.details.includes(rule.text))
  const { notApplied, meaning } = known ?? { notApplied: false, meaning: unknown(failure) }
  const meant = meaning(message)
  // Words of etcd come from a member; others may be those of a proxy, or of this client about a broken connection.
  const isFromMember = known !== undefined || failure.details.includes("etcdserver: ")
  return {
    ...meant,
    // If it was the response that was too large, the request was executed.
    notApplied: notApplied && failure.messageSize === undefined,
    reconnect: meant.suspendEndpoint && isFromMember,
    isFromMember
  }
}

type Meaning = Omit<Classification, "notApplied" | "reconnect" | "isFromMember">

interface Rule {
  readonly code: (code: number) => boolean
  readonly text: string
  /** Whether the server sends this only before a request can change anything. */
  readonly notApplied: boolean
  readonly meaning: (message: string) => Meaning
}

const fail = (reason: KvError.Reason): Meaning => ({ reason, kind: "Final", suspendEndpoint: false })

const invalidRequest = (message: string): Meaning => fail(new KvError.InvalidRequest({ message }))

const unavailable = (suspendEndpoint: boolean) => (message: string): Meaning => ({
  reason: new KvError.Unavailable({ message }),
  kind: "Transient",
  suspendEndpoint
})

const newToken = (message: string): Meaning => ({
  reason: new KvError.Unauthenticated({ message }),
  kind: "TokenRejected",
  suspendEndpoint: false
})

/** The codes with which the transport rejects a request that it can never send, such as one with a token that is too long. */
const unsendables: Readonly<Record<number, Rule["meaning"]>> = {
  [Code.INTERNAL]: invalidRequest,
  [Code.RESOURCE_EXHAUSTED]: (message) => fail(new KvError.RequestTooLarge({ message }))
}

const anyCode = (): boolean => true
const code = (...codes: ReadonlyArray<number>) => (code: number): boolean => codes.includes(code)

/** A rule for an error that proves that the request was not executed. */
const rejection = (text: string, meaning: Rule["meaning"], codes: Rule["code"] = anyCode): Rule => ({
  code: codes,
  text,
  notApplied: true,
  meaning
})

const rules: ReadonlyArray<Rule> = [
  rejection("etcdserver: requested lease not found", (message) => fail(new KvError.LeaseNotFound({ message }))),
  rejection("etcdserver: lease already exists", (message) => fail(new KvError.LeaseExists({ message }))),
  // etcd's message does not contain the compact revision.
  rejection(
    "required revision has been compacted",
    () => fail(new KvError.Compacted({ compactRevision: Option.none() }))
  ),
  rejection("required revision is a future revision", (message) => fail(new KvError.FutureRevision({ message }))),
  rejection("etcdserver: request is too large", (message) => fail(new KvError.RequestTooLarge({ message }))),
  // The receive limit of the server's gRPC library, checked before the request is read.
  rejection(
    "grpc: received message larger than max",
    (message) => fail(new KvError.RequestTooLarge({ message })),
    code(Code.RESOURCE_EXHAUSTED)
  ),
  rejection("etcdserver: permission denied", (message) => fail(new KvError.PermissionDenied({ message }))),
  rejection("etcdserver: authentication failed", (message) => fail(new KvError.Unauthenticated({ message }))),
  rejection("etcdserver: user name is empty", newToken),
  rejection("etcdserver: invalid auth token", newToken),
  rejection("etcdserver: revision of auth store is old", newToken),
  // Sent by the interceptor for the metadata `hasleader`, before the request is handled.
  rejection("etcdserver: no leader", unavailable(true)),
  rejection("etcdserver: too many requests", unavailable(false)),
  rejection("etcdserver: not capable", unavailable(true)),
  rejection("etcdserver: rpc not supported for learner", unavailable(true)),
  rejection("etcdserver: corrupt cluster", unavailable(true)),
  // Applied or not: the write that exceeds the quota is applied, and also gets this error.
  {
    code: anyCode,
    text: "database space exceeded",
    notApplied: false,
    meaning: (message) => fail(new KvError.QuotaExceeded({ message }))
  },
  // Problems of the request itself: keys, limits, sort targets, a TTL that is too long.
  rejection(
    "etcdserver: ",
    invalidRequest,
    code(Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.FAILED_PRECONDITION, Code.NOT_FOUND)
  ),
  rejection("unknown service etcdserverpb", unavailable(true), code(Code.UNIMPLEMENTED))
]

/** A failure without a rule. The request may have been applied. */
const unknown = (failure: Failure) => (message: string): Meaning => {
  switch (failure.code) {
    case Code.UNAUTHENTICATED:
      return fail(new KvError.Unauthenticated({ message }))
    case Code.PERMISSION_DENIED:
      return fail(new KvError.PermissionDenied({ message }))
    default:
      return unavailable(isEndpointAtFault(failure))(message)
  }
}

/**
 * A passed deadline, a change of leader, a replaced connection and a message above our own limit are not the
 * endpoint's fault. Any other failure with an unknown outcome is.
 */
const isEndpointAtFault = (failure: Failure): boolean =>
  failure.code !== Code.DEADLINE_EXCEEDED &&
  failure.messageSize === undefined &&
  failure.details !== replaced &&
  !failure.details.includes("etcdserver: leader changed")

/** The reason why an endpoint with a silent connection is down. */
export const unresponsive = "it responds neither to calls nor to a ping"

/** A write that may have been applied. */
export const indeterminate = (message: string): KvError.Reason => new KvError.Indeterminate({ message })

/** The endpoint's error in one line. It contains no value and no secret, because etcd's messages do not. */
const messageOf = (failure: Failure, endpoint: string): string => {
  const details = failure.details || `gRPC status ${failure.code}`
  return failure.delivery === "Sent"
    ? `${endpoint}: ${details}`
    : `${endpoint}: ${details}${schemeHint(details, endpoint)}`
}

/** A hint for errors that a wrong scheme causes. Neither side names that cause itself. */
const schemeHint = (problem: string, endpoint: string): string => {
  if (endpoint.startsWith("http:") && /closed the connection before its SETTINGS|Protocol error/.test(problem)) {
    return "; does the server want https?"
  }
  return /before secure TLS connection was established|wrong version number|packet length too long/.test(problem)
    ? "; does the server want http?"
    : ""
}

/** Whether a cluster rejected authentication because it has authentication disabled. */
export const isAuthDisabled = (failure: Failure): boolean =>
  failure.details.includes("etcdserver: authentication is not enabled")

/** Whether a lease was not granted because its id is in use. */
export const isLeaseExists = (failure: Failure): boolean => failure.details.includes("etcdserver: lease already exists")

/** etcd's error for a request that needs a missing lease. */
export const leaseGone: Failure = {
  _tag: "GrpcFailure",
  code: Code.NOT_FOUND,
  details: "etcdserver: requested lease not found",
  delivery: "Sent"
}

/** The reason for which the server cancelled a watch, as a failure. */
export const fromCancelReason = (details: string): Failure => ({
  _tag: "GrpcFailure",
  code: Code.UNKNOWN,
  details,
  delivery: "Sent"
})
