/**
 * The meaning of gRPC failures: the only place where etcd's codes and messages become reasons of `KvError`.
 *
 * A classification also says whether the request can have been applied, and whether another attempt can succeed. The rule
 * of what is repeated is in `retry.ts`. Texts are those of etcd's `api/v3rpc/rpctypes/error.go` (3.4 to 3.7).
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Option from "effect/Option"
import { replaced, Status as Code } from "../../grpc/status.ts"
import type { Failure } from "../../grpc/Transport.ts"

export type { Failure }

/** What a failure means. */
export interface Classification {
  /** The reason if the call ends with it and was not applied. */
  readonly reason: KvError.Reason
  /**
   * `Final`: another attempt fails as well. `Transient`: another attempt can succeed. `TokenRejected`: another attempt with
   * a new token can succeed.
   */
  readonly kind: "Final" | "Transient" | "TokenRejected"
  /** Whether it is certain that the request changed nothing. */
  readonly notApplied: boolean
  /** Whether other endpoints are to be preferred for a while. */
  readonly suspendEndpoint: boolean
}

/** Classifies a failure of a request to the endpoint. */
export const classify = (failure: Failure, endpoint: string): Classification => {
  const message = messageOf(failure, endpoint)
  if (failure.delivery !== "Sent") {
    return { ...unavailable(failure.code !== Code.DEADLINE_EXCEEDED)(message), notApplied: true }
  }
  const known = rules.find((rule) => rule.code(failure.code) && failure.details.includes(rule.text))
  return known === undefined
    ? { ...unknown(failure, message), notApplied: false }
    // If it was the response that was too large, the request was executed.
    : { ...known.meaning(message), notApplied: known.notApplied && failure.messageSize === undefined }
}

type Meaning = Omit<Classification, "notApplied">

interface Rule {
  readonly code: (code: number) => boolean
  readonly text: string
  /** Whether the server answers this before a request can change anything. */
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

const anyCode = (): boolean => true
const code = (...codes: ReadonlyArray<number>) => (code: number): boolean => codes.includes(code)

/** A rule for an answer that says that the request was not executed. */
const rejection = (text: string, meaning: Rule["meaning"], codes: Rule["code"] = anyCode): Rule => ({
  code: codes,
  text,
  notApplied: true,
  meaning
})

const rules: ReadonlyArray<Rule> = [
  rejection("etcdserver: requested lease not found", (message) => fail(new KvError.LeaseNotFound({ message }))),
  rejection("etcdserver: lease already exists", (message) => fail(new KvError.LeaseExists({ message }))),
  // The message of etcd does not tell which revision was compacted.
  rejection(
    "required revision has been compacted",
    () => fail(new KvError.Compacted({ compactRevision: Option.none() }))
  ),
  rejection("required revision is a future revision", (message) => fail(new KvError.FutureRevision({ message }))),
  rejection("etcdserver: request is too large", (message) => fail(new KvError.RequestTooLarge({ message }))),
  // The limit of the server's gRPC library for what it receives, checked before the request is read.
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
  // Answered by the interceptor that looks for the metadata `hasleader`, before the request is handled.
  rejection("etcdserver: no leader", unavailable(true)),
  rejection("etcdserver: too many requests", unavailable(false)),
  rejection("etcdserver: not capable", unavailable(true)),
  rejection("etcdserver: rpc not supported for learner", unavailable(true)),
  rejection("etcdserver: corrupt cluster", unavailable(true)),
  // Applied or not: the write that passes the quota is applied and answered with this.
  {
    code: anyCode,
    text: "database space exceeded",
    notApplied: false,
    meaning: (message) => fail(new KvError.QuotaExceeded({ message }))
  },
  // What etcd finds wrong with a request itself: keys, limits, sort targets, a TTL that is too long.
  rejection(
    "etcdserver: ",
    invalidRequest,
    code(Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.FAILED_PRECONDITION, Code.NOT_FOUND)
  ),
  rejection("unknown service etcdserverpb", unavailable(true), code(Code.UNIMPLEMENTED))
]

/** A failure that no rule knows: the request may have been applied. */
const unknown = (failure: Failure, message: string): Meaning => {
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
 * Time that ran out, a change of leaders, a connection that was replaced and a message above our own limit are not the
 * endpoint's fault. Everything else that leaves the outcome open is.
 */
const isEndpointAtFault = (failure: Failure): boolean =>
  failure.code !== Code.DEADLINE_EXCEEDED &&
  failure.messageSize === undefined &&
  failure.details !== replaced &&
  !failure.details.includes("etcdserver: leader changed")

/** Why an endpoint is down whose connection went silent. */
export const unanswered = "it answers neither calls nor a ping"

/** A write that may have been applied. */
export const indeterminate = (message: string): KvError.Reason => new KvError.Indeterminate({ message })

/** What the endpoint said, in one line. It never holds a value or a secret: etcd's messages do not. */
const messageOf = (failure: Failure, endpoint: string): string => {
  const details = failure.details || `gRPC status ${failure.code}`
  return failure.delivery === "Sent"
    ? `${endpoint}: ${details}`
    : `${endpoint}: ${details}${schemeHint(details, endpoint)}`
}

/** Ends of connections that a wrong scheme leads to. Neither side says so itself. */
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

/** Whether a lease was not granted because there is one with its id. */
export const isLeaseExists = (failure: Failure): boolean => failure.details.includes("etcdserver: lease already exists")

/** As etcd says it if a request needs a lease that does not exist. */
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
