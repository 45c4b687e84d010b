/**
 * What a gRPC status means: the only place where etcd's codes and messages are turned into reasons of `KvError`.
 *
 * Besides the reason a verdict tells what to do about it, which depends on what is known of the request: whether it left
 * this process, and whether the server refused it before it could change anything. Texts are those of etcd's
 * `api/v3rpc/rpctypes/error.go` (3.4 and 3.5) and of grpc-js; what is not known here is taken to have been sent.
 */
import * as KvError from "@effect-kv/core/KvError"
import { status as Code } from "@grpc/grpc-js"
import * as Option from "effect/Option"

/** What came instead of an answer. */
export interface Failure {
  readonly code: number
  readonly details: string
  /** Whether any of the request may have left this process. */
  readonly left: boolean
}

/**
 * What a call does to the store, which decides what may be repeated.
 *
 * `read`: nothing that matters, repeat at will. `write`: never repeat what may have been applied. `idempotent`: applying
 * it twice is the same as once, so repeat it, but where all ends in failure its outcome is unknown.
 */
export type Kind = "read" | "write" | "idempotent"

/** What a failure means for the call. */
export interface Verdict {
  readonly reason: KvError.Reason
  /** `fail`: with the reason. `retry`: the same again. `token`: the same again with a new token. */
  readonly action: "fail" | "retry" | "token"
  /** Whether the endpoint is to blame, so that another one is to be preferred. */
  readonly blame: boolean
  /** Whether it is certain that the request changed nothing. */
  readonly refused: boolean
}

/** Judges a failure of a call of this kind to the endpoint. */
export const judge = (failure: Failure, kind: Kind, endpoint: string): Verdict => {
  const known = rules.find((rule) => rule.code(failure.code) && failure.details.includes(rule.text))
  if (known !== undefined) return { ...known.verdict(messageOf(failure, endpoint)), refused: known.refused }
  if (!failure.left) return neverLeft(failure, endpoint)
  return ambiguous(failure, kind, endpoint)
}

interface Rule {
  readonly code: (code: number) => boolean
  readonly text: string
  /** Whether the server answers this before a request can change anything. */
  readonly refused: boolean
  readonly verdict: (message: string) => Omit<Verdict, "refused">
}

const fail = (reason: KvError.Reason): Omit<Verdict, "refused"> => ({ reason, action: "fail", blame: false })

const invalidRequest = (message: string): Omit<Verdict, "refused"> => fail(new KvError.InvalidRequest({ message }))

const unavailable = (blame: boolean) => (message: string): Omit<Verdict, "refused"> => ({
  reason: new KvError.Unavailable({ message }),
  action: "retry",
  blame
})

const newToken = (message: string): Omit<Verdict, "refused"> => ({
  reason: new KvError.Unauthenticated({ message }),
  action: "token",
  blame: false
})

const anyCode = (): boolean => true
const code = (...codes: ReadonlyArray<number>) => (code: number): boolean => codes.includes(code)

/** A rule for an answer that says that the request was not carried out. */
const refusal = (text: string, verdict: Rule["verdict"], codes: Rule["code"] = anyCode): Rule => ({
  code: codes,
  text,
  refused: true,
  verdict
})

const rules: ReadonlyArray<Rule> = [
  refusal("etcdserver: requested lease not found", (message) => fail(new KvError.LeaseNotFound({ message }))),
  refusal("etcdserver: lease already exists", (message) => fail(new KvError.LeaseExists({ message }))),
  // The message of etcd does not tell which revision was compacted.
  refusal(
    "required revision has been compacted",
    () => fail(new KvError.Compacted({ compactRevision: Option.none() }))
  ),
  refusal("required revision is a future revision", (message) => fail(new KvError.FutureRevision({ message }))),
  refusal("etcdserver: request is too large", (message) => fail(new KvError.RequestTooLarge({ message }))),
  // The limit of the server's gRPC library for what it receives, checked before the request is read.
  refusal(
    "grpc: received message larger than max",
    (message) => fail(new KvError.RequestTooLarge({ message })),
    code(Code.RESOURCE_EXHAUSTED)
  ),
  refusal("etcdserver: permission denied", (message) => fail(new KvError.PermissionDenied({ message }))),
  refusal("etcdserver: authentication failed", (message) => fail(new KvError.Unauthenticated({ message }))),
  refusal("etcdserver: user name is empty", newToken),
  refusal("etcdserver: invalid auth token", newToken),
  refusal("etcdserver: revision of auth store is old", newToken),
  // Answered by the interceptor that looks for the metadata `hasleader`, before the request is handled.
  refusal("etcdserver: no leader", unavailable(true)),
  refusal("etcdserver: too many requests", unavailable(false)),
  refusal("etcdserver: not capable", unavailable(true)),
  refusal("etcdserver: rpc not supported for learner", unavailable(true)),
  refusal("etcdserver: corrupt cluster", unavailable(true)),
  // Applied or not: the write that passes the quota is applied and answered with this.
  {
    code: anyCode,
    text: "database space exceeded",
    refused: false,
    verdict: (message) => fail(new KvError.QuotaExceeded({ message }))
  },
  // What etcd finds wrong with a request itself: keys, limits, sort targets, a TTL that is too long.
  refusal(
    "etcdserver: ",
    invalidRequest,
    code(Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.FAILED_PRECONDITION, Code.NOT_FOUND)
  ),
  refusal("Request message serialization failure", invalidRequest, code(Code.INTERNAL)),
  // By HTTP/2 a stream that is refused was not processed; grpc-js says this of RST_STREAM(REFUSED_STREAM) only.
  refusal("Stream refused by server", unavailable(true), code(Code.UNAVAILABLE)),
  refusal("unknown service etcdserverpb", unavailable(true), code(Code.UNIMPLEMENTED))
]

const neverLeft = (failure: Failure, endpoint: string): Verdict => ({
  ...unavailable(failure.details !== silent)(messageOf(failure, endpoint)),
  refused: true
})

/** It may have been carried out. */
const ambiguous = (failure: Failure, kind: Kind, endpoint: string): Verdict => {
  const message = messageOf(failure, endpoint)
  if (kind === "write") {
    return { ...fail(indeterminate(`no answer to a write: ${message}`)), blame: isConnection(failure), refused: false }
  }
  switch (failure.code) {
    case Code.UNAUTHENTICATED:
      return { ...fail(new KvError.Unauthenticated({ message })), refused: false }
    case Code.PERMISSION_DENIED:
      return { ...fail(new KvError.PermissionDenied({ message })), refused: false }
    default:
      return { ...unavailable(isConnection(failure))(message), refused: false }
  }
}

/**
 * Time that ran out, a change of leaders, a connection that was replaced and a message above our own limit are not the
 * endpoint's fault; all else that is ambiguous is.
 */
const isConnection = (failure: Failure): boolean =>
  failure.code !== Code.DEADLINE_EXCEEDED &&
  [silent, "etcdserver: leader changed", "Received message larger than max"].every((text) =>
    !failure.details.includes(text)
  )

/** The details of a failure of what was in flight on a connection that was replaced because it was silent. */
export const silent = "the connection stopped answering and was replaced"

/** Why an endpoint is down that was pinged for its silence. */
export const unanswered = "it answers neither calls nor a ping"

/** Whether the server itself said this, so that the connection to it works. */
export const isAnswer = (failure: Pick<Failure, "code" | "details">): boolean =>
  failure.details.startsWith("etcdserver: ") || !localCodes.includes(failure.code)

/** What grpc-js says of itself; servers may say the same. */
const localCodes: ReadonlyArray<number> = [
  Code.CANCELLED,
  Code.DEADLINE_EXCEEDED,
  Code.INTERNAL,
  Code.RESOURCE_EXHAUSTED,
  Code.UNAVAILABLE
]

/** An endpoint that did not answer within so many milliseconds, which was only part of the deadline. */
export const noAnswer = (milliseconds: number, attempt: { readonly left: boolean }): Failure => ({
  code: Code.DEADLINE_EXCEEDED,
  details: `no answer within ${Math.round(milliseconds)} ms`,
  left: attempt.left
})

/** A write that may have been applied. */
export const indeterminate = (message: string): KvError.Reason => new KvError.Indeterminate({ message })

/** What the endpoint said, in one line. It never holds a value or a secret: etcd's messages do not. */
const messageOf = (failure: Failure, endpoint: string): string => {
  const details = failure.details || `gRPC status ${failure.code}`
  if (failure.left) return `${endpoint}: ${details}`
  const problem = connectError(details)
  return `${endpoint}: ${problem}${schemeHint(problem, endpoint)}`
}

/** Ends of connections that a wrong scheme leads to. Neither side says so itself. */
const schemeHint = (problem: string, endpoint: string): string => {
  if (problem === "Failed to connect" && endpoint.startsWith("http:")) {
    return " over HTTP/2; does the server want https?"
  }
  return /before secure TLS connection was established|wrong version number|packet length too long/.test(problem)
    ? "; does the server want http?"
    : ""
}

/** What kept grpc-js from connecting, out of its longer message. */
export const connectError = (details: string): string =>
  details
    .replace(/^No connection established\. Last error: (Error: )?/, "")
    .replace(/\. Resolution note: .*$/s, "")
    .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)/, "")
    .trim()

/** Whether a cluster refused to authenticate because it has authentication disabled. */
export const isAuthDisabled = (failure: Failure): boolean =>
  failure.details.includes("etcdserver: authentication is not enabled")

/** Whether a lease was not granted because there is one with its id. */
export const isLeaseExists = (failure: Failure): boolean => failure.details.includes("etcdserver: lease already exists")

/** As etcd says it where a request needs a lease that does not exist. */
export const leaseGone: Failure = {
  code: Code.NOT_FOUND,
  details: "etcdserver: requested lease not found",
  left: true
}

/** A failure of which nothing but the error object is known, such as a stream's `error` event. */
export const fromError = (error: unknown): Failure => {
  const { code, details, message } = error as { code?: unknown; details?: unknown; message?: unknown }
  return {
    code: typeof code === "number" ? code : Code.UNKNOWN,
    details: typeof details === "string" ? details : typeof message === "string" ? message : String(error),
    left: true
  }
}
