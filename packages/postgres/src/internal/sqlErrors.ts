/**
 * What a failure of a statement means: whether it may have been applied, and the reason that a caller gets.
 *
 * No message repeats a parameter of the statement, because parameters are values.
 */
import * as KvError from "@effect-kv/core/KvError"
import type * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { readOnly } from "./schema/epochs.ts"

/**
 * The server's own code of the error (SQLSTATE); `undefined` if no response arrived.
 */
export const stateOf = (error: SqlError): string | undefined => {
  const cause = error.reason.cause
  return typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" &&
      /^[0-9A-Z]{5}$/.test(cause.code) && "severity" in cause
    ? cause.code
    : undefined
}

/**
 * Whether the server may have executed a statement that failed like this. It rolls back a statement if it reports an error. But
 * a shutdown, a cancellation or the end of a transaction's time may also arrive after the commit and before the response.
 * So may the error of a pooler that has lost its connection to the server, which has any code.
 */
export const mayBeApplied = (error: SqlError): boolean => {
  const state = stateOf(error)
  return state === undefined || state.startsWith("08") || state.startsWith("57") || state === transactionTimeout ||
    !isOfServer(error)
}

/** Whether Postgres itself reported the error: it adds the untranslated severity, and poolers do not. */
const isOfServer = ({ reason: { cause } }: SqlError): boolean =>
  typeof cause === "object" && cause !== null && "severityUnlocalized" in cause

/** The server ended the connection, because the transaction took too long. */
const transactionTimeout = "25P04"

/**
 * Whether the same statement may succeed soon, if it was not applied: if the server, its resources or its disk are the
 * problem (08, 53, 54, 57P, 58, XX), or other transactions. A full queue of notifications is one of class 54.
 */
export const isTransient = (error: SqlError): boolean => {
  const state = stateOf(error)
  return state === undefined
    ? error.reason._tag === "ConnectionError" && !isInvalidUrl(error) && tlsAdvice(error) === undefined
    : /^(08|53|54|57P|58|XX)/.test(state) ||
      ["40001", "40P01", "55P03", readOnly, "57014", transactionTimeout].includes(state)
}

/** Whether the URL of the application's client is invalid, or names several hosts, which the client takes for one. */
const isInvalidUrl = ({ reason: { cause } }: SqlError): boolean =>
  cause instanceof Error && (
    "code" in cause && cause.code === "ERR_INVALID_URL" ||
    "hostname" in cause && typeof cause.hostname === "string" && cause.hostname.includes(",") ||
    notConnecting.test(cause.message)
  )

/** What the client says of options with which it does not connect at all. */
const notConnecting =
  /^(No username configured|Unsupported connection URL protocol|Invalid (percent-encoding|port|connect_timeout) |Unrecognized sslmode )/

/** What to do about a server with which no session can be started, by what the client says. */
const howToStart: ReadonlyArray<readonly [RegExp, string]> = [
  [/requested password authentication/, "the PgClient has no password"],
  [
    /Failed to parse server response|Protocol desync|Invalid SSLRequest response/,
    "the PgClient is connected to something other than Postgres: correct its host and port"
  ]
]

const adviceOfStart = (error: SqlError): string | undefined =>
  stateOf(error) === undefined
    ? howToStart.find(([matches]) => matches.test(`${error.reason.message} ${textOf(error)}`))?.[1]
    : undefined

/**
 * What to do about a failure of TLS that no further attempt can mend, because the settings of the client are fixed: the
 * server's certificate is not accepted, or the server has no TLS. `undefined` for any other failure.
 */
const tlsAdvice = ({ reason }: SqlError): string | undefined => {
  const { cause } = reason
  if (reason.message === serverRefusedTls) {
    return "set sslmode=disable in the URL of the PgClient, or switch on ssl on the server"
  }
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return "connect by a name that is in the server's certificate, or set ssl.servername of the PgClient"
  }
  if (/^CERT_(HAS_EXPIRED|NOT_YET_VALID)$/.test(code)) {
    return "renew the server's certificate, or correct the clock of this machine"
  }
  return /^(UNABLE_TO_(GET_ISSUER|VERIFY_LEAF)|(DEPTH_ZERO_)?SELF_SIGNED_CERT|CERT_)/.test(code)
    ? "set ssl.ca of the PgClient to the authority of the server's certificate"
    : undefined
}

/** The message of `PgClient` if the server has answered a request for TLS with no. */
const serverRefusedTls = "PgConnection: Server refused TLS"

const howToName =
  "the URL of the PgClient must have the form postgres://user:password@host:port/database, with one host: that of the primary"

/** Whether the server only reads: it is a standby, or in maintenance. */
export const isReadOnly = (error: SqlError): boolean => stateOf(error) === readOnly

/** Whether the server's queue of notifications is full. */
export const isQueueFull = (error: SqlError): boolean => stateOf(error) === "54000"

/** Whether the schema or one of its functions is missing. */
export const isSchemaMissing = (error: SqlError): boolean => ["3F000", "42P01", "42883"].includes(stateOf(error) ?? "")

const howToConnect =
  "the server is read-only: it is a standby, or default_transaction_read_only is set; connect to the primary"

const howToCreate =
  "the schema of the store is missing: run the text of PostgresSchema.script(), or leave out migrate: false"

/** Whether the role lacks a permission. */
export const isDenied = (error: SqlError): boolean => stateOf(error) === "42501"

/** The reason of a call that was not applied. */
export const reasonOf = (error: SqlError, advice?: string): KvError.Reason => {
  const more = advice ??
    (isSchemaMissing(error)
      ? howToCreate
      : isReadOnly(error)
      ? howToConnect
      : isInvalidUrl(error)
      ? howToName
      : tlsAdvice(error) ?? adviceOfStart(error))
  const message = more === undefined ? describe(error) : `${describe(error)}; ${more}`
  const state = stateOf(error)
  if (error.reason._tag === "AuthenticationError" || state?.startsWith("28") === true) {
    return new KvError.Unauthenticated({ message })
  }
  if (isDenied(error)) return new KvError.PermissionDenied({ message })
  if (state === "53100") return new KvError.QuotaExceeded({ message })
  if (isTransient(error) || tlsAdvice(error) !== undefined) return new KvError.Unavailable({ message })
  return new KvError.InvalidRequest({ message })
}

/** Fails with the reason of a call that was not applied, and the server's code. */
export const fail = (error: SqlError, advice?: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(reasonOf(error, advice), { status: stateOf(error) })

export const describe = (error: SqlError): string => {
  const state = stateOf(error)
  const text = textOf(error)
  return state === undefined ? `Postgres: ${text}` : `Postgres: ${text} (SQLSTATE ${state})`
}

const textOf = ({ message, reason }: SqlError): string =>
  reason.cause instanceof Error ? reason.cause.message : reason.message ?? message
