/**
 * This library on Postgres with its defaults, and the bare statements that it is compared with.
 */
import { Kv } from "@effect-kv/core"
import { PostgresLayer } from "@effect-kv/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Calls from "./Calls.ts"

/** A pool of the application's, with the size that is the default of `PgClient`. */
export const pool = (url: string) =>
  Effect.map(
    Layer.build(Layer.fresh(PgClient.layer({ url: Redacted.make(url) }))),
    (context) => Context.get(context, PgClient.PgClient)
  )

/** A client on that pool. */
export const open = (pg: PgClient.PgClient, options?: PostgresLayer.Options) =>
  Effect.map(
    Effect.provideService(Layer.build(Layer.fresh(PostgresLayer.layer(options))), PgClient.PgClient, pg),
    (context) => Context.get(context, Kv.Kv)
  )

/** A client with a pool of its own, as in a process of its own. */
export const openAlone = (url: string) => Effect.flatMap(pool(url), (pg) => open(pg))

const encoder = new TextEncoder()
const value = PgTypes.bytea(encoder.encode(Calls.value))
const keyOf = (caller: number) => PgTypes.bytea(encoder.encode(Calls.key(caller)))

/** A table with a row for each caller. */
export const createBare = (pg: PgClient.PgClient, callers: number) =>
  Effect.gen(function*() {
    yield* pg`create table bare (key bytea primary key, value bytea not null, version bigint not null)
      with (fillfactor = 70)`
    for (let caller = 0; caller < callers; caller++) {
      yield* pg`insert into bare (key, value, version) values (${keyOf(caller)}, ${value}, 1)`
    }
    yield* pg`vacuum analyze bare`
  })

type Statement = readonly [sql: string, params: ReadonlyArray<unknown>]

const statements: Readonly<Record<"get" | "put", (caller: number) => Statement>> = {
  get: (caller) => ["select value, version from bare where key = $1", [keyOf(caller)]],
  put: (caller) => [
    "update bare set value = $1, version = version + 1 where key = $2 returning version",
    [value, keyOf(caller)]
  ]
}

/** One statement on a connection that is held: as little as can be between the caller and the server. */
export const bareOnOne = (pg: PgClient.PgClient, name: "get" | "put") =>
  Effect.map(
    pg.reserve,
    (connection) => (caller: number): Effect.Effect<unknown, unknown> =>
      connection.executeValues(...statements[name](caller))
  )

/** The same statement as an application makes it, on any connection of the pool. */
export const bareOnPool =
  (pg: PgClient.PgClient, name: "get" | "put") => (caller: number): Effect.Effect<unknown, unknown> =>
    pg.unsafe(...statements[name](caller)).values
