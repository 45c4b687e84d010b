/**
 * The server of a `PgClient`, as the labels of metrics and the attributes of spans name it.
 */
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import * as Redacted from "effect/Redacted"

export interface ServerAddress {
  readonly address: string
  /** `undefined` for a Unix socket. */
  readonly port: number | undefined
}

const defaultPort = 5432

/** Never the user or the password of a URL. */
export const of = ({ host, path, port, url }: PgClientConfig): ServerAddress => {
  if (path !== undefined) return { address: path, port: undefined }
  const text = url === undefined ? "" : Redacted.value(url)
  const parsed = URL.canParse(text) ? new URL(text) : undefined
  const named = host ?? parsed?.hostname ?? ""
  const parsedPort = parsed === undefined || parsed.port === "" ? undefined : Number(parsed.port)
  return { address: named === "" ? "localhost" : named, port: port ?? parsedPort ?? defaultPort }
}

/** The name of the database. By default it is that of the user. */
export const database = ({ database, url, username }: PgClientConfig): string => {
  const text = url === undefined ? "" : Redacted.value(url)
  const parsed = URL.canParse(text) ? new URL(text) : undefined
  const given = [database, parsed?.pathname.slice(1), username, parsed?.username].find((name) =>
    name !== undefined && name !== ""
  )
  return given === undefined ? "postgres" : decoded(given)
}

/** As a URL encodes it; a name that is not encoded may have a `%`. */
const decoded = (name: string): string => {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}

export const labels = ({ address, port }: ServerAddress): Readonly<Record<string, string>> =>
  port === undefined ? { "server.address": address } : { "server.address": address, "server.port": `${port}` }

export const attributes = ({ address, port }: ServerAddress): Readonly<Record<string, string | number>> =>
  port === undefined ? { "server.address": address } : { "server.address": address, "server.port": port }
