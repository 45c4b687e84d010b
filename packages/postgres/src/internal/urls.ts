/**
 * The URLs of a database. No message repeats a URL, because it may hold a password.
 */
import * as KvError from "@effect-kv/core/KvError"
import type * as Cause from "effect/Cause"
import type { SqlError } from "effect/sql/SqlError"
import * as sqlErrors from "./sqlErrors.ts"

const form = "postgres://user:password@host:port/database"

/** Why the URL cannot be used; `undefined` if it can. */
export const invalid = (url: string): string | undefined => {
  if (namesSeveral(url)) {
    return "the URL of the database names several hosts, but PgClient connects to one: use a name or a proxy that leads to " +
      "the primary"
  }
  if (!URL.canParse(url)) return `the URL of the database is invalid; it must have the form ${form}`
  const { protocol } = new URL(url)
  return protocol === "postgres:" || protocol === "postgresql:"
    ? undefined
    : `the URL of the database must begin with postgres: or postgresql:, as in ${form}`
}

/** Whether the URL has a list of hosts, as libpq allows. */
const namesSeveral = (url: string): boolean => /^[a-z]+:\/\/(?:[^/?#]*@)?[^@/?#]*,/i.test(url)

/** Why the client of a URL could not be made. */
export const reasonOf = (cause: Cause.Cause<SqlError>): KvError.Reason => {
  const failure = cause.reasons.find((reason) => reason._tag === "Fail")
  return failure === undefined
    ? new KvError.InvalidRequest({ message: `the URL of the database is invalid; it must have the form ${form}` })
    : sqlErrors.reasonOf(failure.error)
}
