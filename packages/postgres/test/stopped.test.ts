/**
 * Processes that hold a lock, are stopped (SIGSTOP) for longer than its time to live, and then continue to write their own rows.
 */
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as billers from "./support/billers.ts"
import { database } from "./support/store.ts"

/** The rows, and how the transaction of the process that was stopped ended. */
const takeOver = Effect.fnUntraced(function*(fence: "fenced" | "unfenced") {
  const { url } = yield* PostgresServer.PostgresServer
  const sql = yield* PgClient.PgClient
  yield* sql`drop table if exists invoice`
  yield* sql`create table invoice (name text not null)`
  const stale = yield* billers.start(url, "stale", fence)
  assert.strictEqual(yield* stale.line, "held")
  yield* stale.signal("SIGSTOP")
  const next = yield* billers.start(url, "next", fence)
  assert.strictEqual(yield* next.line, "held")
  yield* next.go
  assert.strictEqual(yield* next.line, "accepted")
  yield* stale.go
  yield* stale.signal("SIGCONT")
  const end = yield* stale.line
  const rows = yield* sql<{ readonly name: string }>`select name from invoice order by name`
  return [end, ...rows.map(({ name }) => name)]
})

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "a lock holder that is stopped beyond its time to live",
  (it) => {
    it.effect("has its SQL transaction rejected by the fence", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* takeOver("fenced"), ["rejected LockLost", "next"])
      }))

    it.effect("writes its stale rows without the fence", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* takeOver("unfenced"), ["accepted", "next", "stale"])
      }))
  }
)
