/**
 * Why a Postgres server could not be used: what errors of the network, of TLS and of the server's start of a session mean to
 * the operator.
 */
import type { SqlError } from "effect/sql/SqlError"
import { type Finding, problem } from "./finding.ts"

interface Rule {
  /** Matches the server's own code (SQLSTATE), or the code and the messages of the client. */
  readonly matches: RegExp
  readonly code: string
  readonly says: string
  readonly advice: string
}

const rule = (matches: RegExp, code: string, says: string, advice: string): Rule => ({ matches, code, says, advice })

/** In this order: the first rules are special cases of later ones. */
const rules: ReadonlyArray<Rule> = [
  rule(
    /^28000 .*(no encryption|SSL off)/,
    "server-wants-tls",
    "accepts connections of this user or from this machine with TLS only",
    "Add ?sslmode=require to the URL, or verify-full to verify the server too."
  ),
  rule(
    /requested password authentication/,
    "credentials-missing",
    "demands a password, and the URL has none",
    "Give user and password in the URL: postgres://user:password@host:port/database."
  ),
  rule(
    /^28/,
    "credentials-wrong",
    "rejects the user, the password, or connections from this machine",
    "Correct user and password in the URL. An administrator sees in pg_hba.conf who may connect from where."
  ),
  rule(/^3D000/, "no-database", "has no such database", "Correct the end of the URL: /database."),
  rule(
    /^53300/,
    "too-many-connections",
    "has no connection left",
    "Raise max_connections or the limit of the role or database, or give programs smaller pools (maxConnections)."
  ),
  rule(
    /No username configured|Unrecognized sslmode|Invalid connect_timeout|Invalid percent-encoding|Invalid port/,
    "configuration",
    "cannot be connected to: the URL is incomplete or wrong",
    "Correct the URL: postgres://user:password@host:port/database?sslmode=require."
  ),
  rule(
    /does not support TLS/,
    "server-speaks-plain",
    "does not speak TLS",
    "Remove sslmode from the URL, or switch on ssl in postgresql.conf."
  ),
  rule(
    /certificate has expired/,
    "server-certificate-expired",
    "has a certificate that has expired",
    "Renew the certificate of the server. If it is new, check this machine's clock."
  ),
  rule(
    /altnames|Hostname\/IP does not match/,
    "server-name-mismatch",
    "has a certificate for another name",
    "Use a name that is in the certificate as the host of the URL, or sslmode=require, which does not verify it."
  ),
  rule(
    /unable to verify|self-signed|unable to get (local )?issuer|certificate signature failure/,
    "unknown-authority",
    "has a certificate of an authority that this machine does not know",
    "Name the PEM file of the authority in NODE_EXTRA_CA_CERTS, or use sslmode=require, which does not verify it."
  ),
  rule(
    /Failed to parse server response|Protocol desync|Invalid SSLRequest response/,
    "not-postgres",
    "responds with something other than the protocol of Postgres",
    "Correct the address and the port: Postgres uses 5432, PgBouncer 6432."
  ),
  rule(
    /ENOTFOUND|EAI_AGAIN/,
    "unknown-host",
    "has a host name that cannot be resolved",
    "Correct the name, or the DNS of this machine."
  ),
  rule(
    /EHOSTUNREACH|ENETUNREACH|EHOSTDOWN/,
    "no-route",
    "cannot be reached: there is no route to it",
    "Is the address right? Is this machine in the same network?"
  ),
  rule(
    /ECONNREFUSED/,
    "connection-refused",
    "refuses connections: nothing listens there",
    "Start the server, or correct the address and the port (listen_addresses; Postgres uses 5432, PgBouncer 6432)."
  )
]

/** What the failure says about the server. */
export const finding = (shown: string, { reason }: SqlError): Finding => {
  const cause: unknown = reason.cause
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""
  const message = cause instanceof Error ? cause.message : reason.message ?? ""
  const found = rules.find(({ matches }) => matches.test(`${code} ${reason.message} ${message}`))
  return found === undefined
    ? problem(
      "endpoint-unreachable",
      `${shown} cannot be connected to: ${message}`,
      "Does the server run, and may this machine connect to it?"
    )
    : problem(found.code, `${shown} ${found.says}: ${message}`, found.advice)
}
