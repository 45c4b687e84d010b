/**
 * gRPC's status codes, and the mappings of HTTP statuses and HTTP/2 errors to them.
 *
 * The mappings are those of gRPC's `http-grpc-status-mapping.md` and `PROTOCOL-HTTP2.md`.
 */
import type { IncomingHttpHeaders, IncomingHttpStatusHeader } from "node:http2"
import type { Delivery, Failure } from "./Transport.ts"

export const Status = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16
} as const

export const failure = (code: number, details: string, delivery: Delivery, messageSize?: number): Failure =>
  messageSize === undefined
    ? { _tag: "GrpcFailure", code, details, delivery }
    : { _tag: "GrpcFailure", code, details, delivery, messageSize }

/** The details of failures on a connection that was silent, after another one has replaced it. */
export const replaced = "the connection stopped responding and was replaced"

/** A status and its message. */
export interface Outcome {
  readonly code: number
  readonly details: string
  /** The size of the message if it was too large. */
  readonly messageSize?: number
}

/** The status for an HTTP status, for responses that have no `grpc-status`. */
export const fromHttp = (status: number): number => {
  switch (status) {
    case 400:
      return Status.INTERNAL
    case 401:
      return Status.UNAUTHENTICATED
    case 403:
      return Status.PERMISSION_DENIED
    case 404:
      return Status.UNIMPLEMENTED
    case 429:
    case 502:
    case 503:
    case 504:
      return Status.UNAVAILABLE
    default:
      return Status.UNKNOWN
  }
}

/** HTTP/2's error codes, by number. */
const resetNames = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED"
]

export const Reset = { NO_ERROR: 0, REFUSED_STREAM: 7, CANCEL: 8, ENHANCE_YOUR_CALM: 11, INADEQUATE_SECURITY: 12 }

export const resetName = (code: number): string => resetNames[code] ?? `HTTP/2 error ${code}`

/** The status for the error code of an `RST_STREAM`. */
export const fromReset = (code: number): number => {
  switch (code) {
    case Reset.REFUSED_STREAM:
      return Status.UNAVAILABLE
    case Reset.CANCEL:
      return Status.CANCELLED
    case Reset.ENHANCE_YOUR_CALM:
      return Status.RESOURCE_EXHAUSTED
    case Reset.INADEQUATE_SECURITY:
      return Status.PERMISSION_DENIED
    default:
      return Status.INTERNAL
  }
}

/** The status in trailers, or in the headers of a trailers-only response. `undefined` if there is none. */
export const fromTrailers = (trailers: IncomingHttpHeaders): Outcome | undefined => {
  const status = trailers["grpc-status"]
  if (status === undefined) return undefined
  const details = trailers["grpc-message"]
  if (status === "0" && details === undefined) return ok
  const message = typeof details === "string" ? decodeMessage(details) : ""
  if (typeof status !== "string" || !/^\d{1,9}$/.test(status)) {
    return { code: Status.UNKNOWN, details: `the server sent an invalid grpc-status: ${String(status).slice(0, 20)}` }
  }
  return { code: Number(status), details: message }
}

const ok: Outcome = { code: Status.OK, details: "" }

/** The outcome if the headers of a response already decide it. The rest of the response is then ignored. */
export const fromHeaders = (headers: IncomingHttpHeaders & IncomingHttpStatusHeader): Outcome | undefined => {
  const outcome = fromTrailers(headers)
  if (outcome !== undefined) return outcome
  const status = headers[":status"] ?? 0
  const type = headers["content-type"]
  if (status !== 200) {
    return { code: fromHttp(status), details: `the response has HTTP status ${status} (${type ?? "no content-type"})` }
  }
  if (type?.startsWith("application/grpc") === true) return undefined
  return {
    code: Status.UNKNOWN,
    details: `the response is not gRPC: its content-type is ${type === undefined ? "missing" : type.slice(0, 80)}`
  }
}

/** Decodes a percent-encoded `grpc-message`. Incorrectly encoded parts stay unchanged. */
export const decodeMessage = (message: string): string => {
  if (!message.includes("%")) return message
  const bytes = Buffer.from(message, "utf8").toString("latin1").replace(
    /%([0-9a-fA-F]{2})/g,
    (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))
  )
  return Buffer.from(bytes, "latin1").toString("utf8")
}
