/**
 * A client with a thousand watches that nothing happens to makes no more statements than one without.
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
        const kv = Context.get(yield* connect(), Kv.Kv)
        yield* kv.put("a", "b")
        const keys = Array.from({ length: watches }, (_, i) => KeyRange.key(`watched/${i}`))
        yield* Effect.forEach(keys, (range) => backendOf(kv).watch({ range }), { concurrency: 16 })
        // From here on the log of the server has each statement.
        yield* sql`alter system set log_statement = 'all'`
        yield* sql`select pg_reload_conf()`
        // The feed and the sweeper each read every five seconds. In the time in which both have done so twice, there is
        // nothing else.
        const statements = yield* statementsUntil(server, [".changes(", "cleanable"])
        assert.isAtMost(statements.length, 7, statements.join("\n"))
      }))
  }
)

/** The statements of the client, once each of those has been made twice. */
const statementsUntil = Effect.fnUntraced(
  function*(server: PostgresServer.PostgresServer["Service"], parts: ReadonlyArray<string>) {
    while (true) {
      const log = yield* server.log
      const statements = log.split("\n").filter((line) => line.includes("LOG:  execute "))
      const isDone = parts.every((part) => statements.filter((line) => line.includes(part)).length >= 2)
      if (isDone || statements.length > 20) return statements
      yield* Effect.sleep("50 millis")
    }
  }
)
