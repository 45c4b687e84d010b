/**
 * The plan of the read of one key, which is made without the settings of the functions: it must not scan the table, however
 * small that was when the plan was made.
 */
import * as Kv from "@effect-kv/core/Kv"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { connect, database } from "./support/store.ts"

/** The plan that a prepared statement keeps. */
const keptPlan = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  return yield* sql.withTransaction(Effect.gen(function*() {
    yield* sql`set local plan_cache_mode = force_generic_plan`
    yield* sql`prepare read(bytea) as select * from effect_kv.entry_now($1)`
    const lines = yield* sql.unsafe<Record<string, string>>("explain execute read('k')")
    yield* sql`deallocate read`
    return lines.map((line) => Object.values(line)[0]).join("\n")
  }))
})

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "the plan of the read of one key",
  (it) => {
    it.effect("uses the index of a table that was never analyzed, and of a small one that was", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const kv = Context.get(yield* connect(), Kv.Kv)
        yield* kv.put("a", "b")
        const atFirst = yield* keptPlan
        assert.include(atFirst, "entry_key")
        assert.notInclude(atFirst, "Seq Scan on entry")
        yield* sql`vacuum analyze effect_kv.entry`
        const plan = yield* keptPlan
        assert.include(plan, "Index Scan using entry_key")
        assert.notInclude(plan, "Seq Scan on entry")
        // The call of the function is part of the plan, not a step of it.
        assert.notInclude(plan, "Function Scan")
      }))
  }
)
