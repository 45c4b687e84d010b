/**
 * A store that went back, as after a failover to a replica that lacks the last writes.
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
import * as Option from "effect/Option"
import { connect, database } from "./support/store.ts"

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "a store that went back",
  (it) => {
    it.effect("fails the call that notices and the open watches with StoreReplaced, and is used from then on", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const kv = Context.get(yield* connect(), Kv.Kv)
        yield* kv.put("kept", "1")
        const { revision } = yield* kv.put("before", "1")
        const watcher = yield* backendOf(kv).watch({ range: KeyRange.all })
        yield* kv.put("lost", "1")
        yield* kv.put("lost", "2")
        yield* sql.withTransaction(Effect.andThen(
          sql`delete from effect_kv.log where revision > ${revision}`,
          Effect.andThen(
            sql`delete from effect_kv.entry where mod_revision > ${revision}`,
            sql`update effect_kv.store set revision = ${revision}`
          )
        ))
        const error = yield* Effect.flip(kv.get("lost"))
        assert.strictEqual(error.reason._tag, "StoreReplaced")
        assert.include(error.message, `at revision ${revision}`)
        const takes = Effect.forever(watcher.take)
        assert.strictEqual((yield* Effect.flip(takes)).reason._tag, "StoreReplaced")
        assert.deepStrictEqual(yield* kv.get("lost"), Option.none())
        assert.strictEqual((yield* kv.put("after", "1")).revision, revision + 1n)
      }))
  }
)
