/**
 * The harness's own connections to the server, which no fault concerns except those of the server.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { StoreError } from "../Store.ts"

/** The name of the harness's connections. Those of clients have the name of their client. */
const harness = "chaos"

/** The connections of clients, for the catalog `pg_stat_activity`. */
export const ofClients = "backend_type = 'client backend' and application_name ~ '^c[0-9]+$'"

export interface Sql {
  readonly client: PgClient.PgClient
  /** Executes a statement, again if the server fails meanwhile. */
  readonly query: <A extends object>(
    text: string,
    params?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<A>, StoreError>
  /** Executes a statement once. */
  readonly once: <A extends object>(
    text: string,
    params?: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<A>, StoreError>
}

export const make = Effect.fnUntraced(function*(url: string) {
  const client = yield* Effect.provide(
    PgClient.make({ url: Redacted.make(url), applicationName: harness, maxConnections: 12 }),
    Reactivity.layer
  )
  const once: Sql["once"] = <A extends object>(text: string, params: ReadonlyArray<unknown> = []) =>
    Effect.mapError(
      client.unsafe<A>(text, params),
      (cause) => new StoreError({ message: `${String(cause.reason.cause)}: ${text.trim()}`, cause })
    )
  const query: Sql["query"] = <A extends object>(text: string, params?: ReadonlyArray<unknown>) =>
    Effect.timeoutOrElse(once<A>(text, params), {
      duration: "10 seconds",
      orElse: () => Effect.fail(new StoreError({ message: `no response: ${text.trim()}` }))
    }).pipe(Effect.retry({ schedule: Schedule.spaced("100 millis"), times: 100 }))
  return { client, once, query } satisfies Sql
})
