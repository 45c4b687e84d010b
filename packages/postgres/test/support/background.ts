/**
 * Clients without the statements that a client makes by itself, at times of its own: those of its sweeper and of the feed of its
 * watches. A fault that is meant for a call could strike one of them, one could occupy the only connection of a client, or be
 * the first to notice what the test is about.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import type { Connection } from "effect/sql/SqlConnection"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import * as calls from "../../src/internal/calls.ts"
import type * as connection from "../../src/internal/connection.ts"
import { identifier } from "../../src/internal/schema/names.ts"
import { untilTrue } from "./until.ts"

interface Stoppable {
  /** The application's client, for a layer. */
  readonly pg: PgClient.PgClient
  /** From now on the background statements of the layer's client fail before they are sent. Waits for those in flight. */
  readonly stop: Effect.Effect<void>
}

const failed = Effect.fail(
  new SqlError({ reason: new UnknownError({ cause: new Error("the test has stopped it"), operation: "test" }) })
)

const make = (
  pg: PgClient.PgClient,
  schema: string,
  isRunning: boolean
): Stoppable => {
  let isStopped = !isRunning
  let inFlight = 0
  // A sweep begins with this statement, and ends if it fails.
  const { sql: state } = calls.state({ schema: identifier(schema) } as connection.Connection)
  const isBackground = (sql: string) => sql === state || sql.includes(`${identifier(schema)}.changes(`)
  const executed = (reserved: Connection, sql: string, params: ReadonlyArray<unknown>) =>
    Effect.suspend(() => {
      if (!isBackground(sql)) return reserved.executeValues(sql, params)
      if (isStopped) return failed
      inFlight++
      return Effect.ensuring(reserved.executeValues(sql, params), Effect.sync(() => inFlight--))
    })
  const reserve = Effect.map(pg.reserve, (reserved): Connection =>
    Object.create(reserved, {
      executeValues: { value: (sql: string, params: ReadonlyArray<unknown>) => executed(reserved, sql, params) }
    }))
  return {
    pg: new Proxy(pg, { get: (target, name) => name === "reserve" ? reserve : Reflect.get(target, name) }),
    stop: Effect.andThen(
      Effect.sync(() => {
        isStopped = true
      }),
      untilTrue("the end of the background statements", Effect.sync(() => inFlight === 0))
    )
  }
}

/** For a client whose background statements can be stopped. */
export const stoppable = (pg: PgClient.PgClient, schema = "effect_kv"): Stoppable => make(pg, schema, true)

/** For a client without background statements, and so without watches. */
export const withoutBackground = (pg: PgClient.PgClient, schema = "effect_kv"): PgClient.PgClient =>
  make(pg, schema, false).pg
