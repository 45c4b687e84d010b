/**
 * The span of one attempt of a call: a statement. It is a child of the call's span, which covers all attempts, so that
 * retries and the search for a lost outcome are visible. It contains the statement's summary, never a parameter.
 */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type * as Tracer from "effect/Tracer"
import type { ServerAddress } from "./serverAddress.ts"
import * as serverAddress from "./serverAddress.ts"
import * as sqlErrors from "./sqlErrors.ts"

/** The attempt's outcome, as a span shows it. */
export interface Ended {
  readonly error?: SqlError | undefined
  readonly isLate: boolean
}

/** Sends a statement in the span of its attempt, and names the server on the call's span. */
export const around = <A>(
  call: Tracer.Span,
  sql: string,
  server: ServerAddress,
  send: Effect.Effect<A>,
  endOf: (outcome: A) => Ended
): Effect.Effect<A> => {
  const attributes = serverAddress.attributes(server)
  for (const name in attributes) call.attribute(name, attributes[name])
  const summary = summaryOf(sql)
  return Effect.useSpan(summary, {
    kind: "client",
    parent: call,
    attributes: { "db.system.name": "postgresql", "db.query.summary": summary, ...attributes }
  }, (span) =>
    Effect.map(send, (outcome) => {
      const { error, isLate } = endOf(outcome)
      if (error !== undefined) {
        const state = sqlErrors.stateOf(error)
        span.attribute("error.type", state ?? error.reason._tag)
        if (state !== undefined) span.attribute("db.response.status_code", state)
      } else if (isLate) span.attribute("error.type", "DeadlineExceeded")
      return outcome
    }))
}

const summaries = new Map<string, string>()

/** For example `SELECT effect_kv.write`. The texts of statements are few: their parameters are apart from them. */
const summaryOf = (sql: string): string => {
  const known = summaries.get(sql)
  if (known !== undefined) return known
  const verb = /^\s*(\w+)/.exec(sql)?.[1]?.toUpperCase() ?? "SQL"
  const target = /\b(?:from|update|select)\s+("(?:[^"]|"")*"|\w+)\.(\w+)/.exec(sql)
  const summary = target === null ? verb : `${verb} ${target[1]!.replaceAll("\"", "")}.${target[2]}`
  summaries.set(sql, summary)
  return summary
}
