/**
 * A client with a thousand watches that nothing happens to makes exactly the statements of one without.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { connect, database } from "./support/store.ts"

const watches = 1000

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "idle watches",
  (it) => {
    it.effect("a thousand watches make no statements of their own while nothing happens", () =>
      Effect.gen(function*() {
        const server = yield* PostgresServer.PostgresServer
        const sql = yield* PgClient.PgClient
        const [watching, other] = yield* Effect.forEach(
          ["watching", "other"],
          (schema) => Effect.map(connect({ schema }), Context.get(Kv.Kv))
        )
        yield* watching!.put("a", "b")
        yield* other!.put("a", "b")
        const keys = Array.from({ length: watches }, (_, i) => KeyRange.key(`watched/${i}`))
        yield* Effect.forEach(keys, (range) => backendOf(watching!).watch({ range }), { concurrency: 16 })
        // From here on the log of the server has each statement.
        yield* sql`alter system set log_statement = 'all'`
        yield* sql`select pg_reload_conf()`
        // The sweeper of each client reads the state of the store every five seconds.
        const made = yield* statementsUntil(server, ["watching", "other"], 3)
        assert.deepStrictEqual(made["watching"], made["other"])
        assert.strictEqual(made["watching"]!.length, 2, made["watching"]!.join("\n"))
      }))
  }
)

/**
 * The statements in each schema, from the one that reads the state of its store for the first time, exclusively, to the nth.
 * Before the first one the feed may not have its own notification yet, and reads at a short interval.
 */
const statementsUntil = Effect.fnUntraced(
  function*(server: PostgresServer.PostgresServer["Service"], schemas: ReadonlyArray<string>, readings: number) {
    while (true) {
      // The lines of one statement after the first begin with a tab.
      const statements = (yield* server.log).split(/\n(?!\t)/).flatMap((entry) => {
        const [, statement] = entry.split(/LOG:\s+execute [^:]*: /)
        return statement === undefined ? [] : [statement]
      })
      const made: Record<string, ReadonlyArray<string>> = {}
      let isDone = true
      for (const schema of schemas) {
        const own = statements.filter((statement) => statement.includes(`"${schema}".`))
        const ends = own.flatMap((statement, i) => statement.includes("cleanable") ? [i + 1] : [])
        isDone &&= ends.length >= readings
        made[schema] = own.slice(ends[0], ends[readings - 1]).map((statement) => statement.replaceAll(schema, "schema"))
      }
      if (isDone) return made
      yield* Effect.sleep("50 millis")
    }
  }
)
