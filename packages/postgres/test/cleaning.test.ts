/**
 * The cleaning of the history, beside writers and clocks that could prevent it.
 */
import * as Kv from "@effect-kv/core/Kv"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { holding, untilRows } from "./support/backends.ts"
import { connect, database } from "./support/store.ts"

interface State {
  readonly cleanable: bigint
  readonly cleaned: bigint
}

const state = (schema: string) =>
  Effect.flatMap(
    PgClient.PgClient,
    (sql) => Effect.map(sql.unsafe<State>(`select cleanable, cleaned from ${schema}.store`), (rows) => rows[0]!)
  )

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "the cleaning of the history",
  (it) => {
    for (const isolation of ["read committed", "repeatable read", "serializable"]) {
      it.effect(`is not in vain if others write meanwhile, in ${isolation}`, () =>
        Effect.gen(function*() {
          const sql = yield* PgClient.PgClient
          const schema = `cleaned_in_${isolation.replace(" ", "_")}`
          const kv = Context.get(yield* connect({ schema }), Kv.Kv)
          const first = yield* kv.put("k", "1")
          const { revision } = yield* kv.put("k", "2")
          yield* sql.unsafe(`update ${schema}.store set compacted = ${revision}, cleanable = ${revision}`)
          const release = yield* holding(sql, `select from ${schema}.log where revision = ${first.revision} for update`)
          const cleaning = yield* Effect.forkChild(sql.withTransaction(Effect.andThen(
            sql.unsafe(`set transaction isolation level ${isolation}`),
            sql.unsafe(`select ${schema}.clean(10)`)
          )))
          const waits = (name: string) =>
            untilRows(
              sql,
              `a call of ${name} that waits for a lock`,
              sql`
              select from pg_stat_activity
              where wait_event_type = 'Lock' and query like ${`%${schema}%.${name}(%`}`
            )
          yield* waits("clean")
          const write = yield* Effect.forkChild(kv.put("other", "1"))
          yield* Effect.raceFirst(waits("put_entries"), Fiber.join(write))
          yield* release
          yield* Fiber.join(cleaning)
          yield* Fiber.join(write)
          assert.strictEqual((yield* state(schema)).cleaned, revision)
        }))
    }

    it.effect("goes on if the clock of the database was set back", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const kv = Context.get(yield* connect({ schema: "set_back" }), Kv.Kv)
        const { revision } = yield* kv.put("k", "1")
        yield* sql`
          update set_back.store set compacted = ${revision}, pending = ${revision},
            rotated_at = clock_timestamp() + interval '1 day'`
        yield* sql`select set_back.rotate()`
        assert.strictEqual((yield* state("set_back")).cleanable, revision)
      }))
  }
)
