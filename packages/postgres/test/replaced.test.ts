/**
 * A store that went back, because a backup was restored.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as PostgresSchema from "@effect-kv/postgres/PostgresSchema"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Array from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { identifier } from "../src/internal/schema/names.ts"
import { behindProxy, losingResponse } from "./support/backends.ts"
import { stoppable, withoutBackground } from "./support/background.ts"
import { connect, database } from "./support/store.ts"

const tables = ["store", "epoch", "entry", "log", "lease", "void"]

const onEach = (f: (table: string) => string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => Effect.forEach(tables, (table) => sql.unsafe(f(table))))

const dump = (schema: string) =>
  Effect.andThen(
    Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(`create schema ${identifier(`dump of ${schema}`)}`)),
    onEach((table) =>
      `create table ${identifier(`dump of ${schema}`)}.${table} as table ${identifier(schema)}.${table}`
    )
  )

const copyRows = (schema: string) =>
  onEach((table) => `insert into ${identifier(schema)}.${table} table ${identifier(`dump of ${schema}`)}.${table}`)

/** Like `pg_restore --clean`: new tables, and triggers after the rows. */
const restoreAll = Effect.fnUntraced(function*(schema: string) {
  const sql = yield* PgClient.PgClient
  yield* sql.unsafe(`drop schema ${identifier(schema)} cascade`)
  yield* sql.unsafe(PostgresSchema.script(schema))
  yield* onEach((table) => `truncate ${identifier(schema)}.${table}`)
  yield* sql.unsafe(`alter table ${identifier(schema)}.store disable trigger user`)
  yield* copyRows(schema)
  yield* sql.unsafe(`alter table ${identifier(schema)}.store enable trigger user`)
})

/** Like `pg_restore --data-only` into tables that were emptied. */
const restoreRows = (schema: string) =>
  Effect.andThen(onEach((table) => `truncate ${identifier(schema)}.${table}`), copyRows(schema))

/** Like a dump that switches triggers off while its rows are inserted. */
const restoreAsReplica = (schema: string) =>
  Effect.flatMap(
    PgClient.PgClient,
    (sql) => Effect.andThen(sql`set local session_replication_role = replica`, restoreRows(schema))
  )

/** Takes the store back to a revision. */
const goBack = (revision: bigint) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    sql.withTransaction(Effect.andThen(
      sql`delete from effect_kv.log where revision > ${revision}`,
      Effect.andThen(
        sql`delete from effect_kv.entry where mod_revision > ${revision}`,
        sql`update effect_kv.store set revision = ${revision}`
      )
    )))

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "a store that went back",
  (it) => {
    it.effect("fails the call that notices and the open watches with StoreReplaced, and is used from then on", () =>
      Effect.gen(function*() {
        const { pg, stop } = stoppable(yield* PgClient.PgClient)
        const kv = Context.get(yield* Effect.provideService(connect(), PgClient.PgClient, pg), Kv.Kv)
        yield* kv.put("kept", "1")
        const { revision } = yield* kv.put("before", "1")
        const watcher = yield* backendOf(kv).watch({ range: KeyRange.all })
        yield* kv.put("lost", "1")
        yield* watcher.take
        yield* kv.put("lost", "2")
        // The feed or the sweeper might be the first to notice.
        yield* stop
        yield* goBack(revision)
        const error = yield* Effect.flip(kv.get("lost"))
        assert.strictEqual(error.reason._tag, "StoreReplaced")
        assert.include(error.message, `at revision ${revision}`)
        const takes = Effect.forever(watcher.take)
        assert.strictEqual((yield* Effect.flip(takes)).reason._tag, "StoreReplaced")
        assert.deepStrictEqual(yield* kv.get("lost"), Option.none())
        assert.strictEqual((yield* kv.put("after", "1")).revision, revision + 1n)
      }))

    it.effect("a condition that holds by chance in a store that lost writes applies nothing", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const client = Effect.map(
          Effect.provideService(connect(), PgClient.PgClient, withoutBackground(sql)),
          Context.get(Kv.Kv)
        )
        const [stale, next] = [yield* client, yield* client]
        const { revision } = yield* stale.put("chance/before", "1")
        const mine = yield* stale.put("chance/place", "stale")
        yield* goBack(revision)
        // As after a failover, whose first write begins an epoch.
        yield* sql`update effect_kv.store set server_started = null`
        const theirs = yield* next.put("chance/place", "next")
        assert.strictEqual(theirs.revision, mine.revision)
        const error = yield* Effect.flip(stale.txn({
          if: [Compare.createRevision("chance/place", "=", mine.revision)],
          then: [Op.put("chance/place", "stale again")]
        }))
        assert.strictEqual(error.reason._tag, "StoreReplaced")
        assert.deepStrictEqual(yield* next.get("chance/place"), Option.some("next"))
      }))

    const restorations = [
      ["whole", restoreAll],
      ["without its schema", restoreRows],
      ["without its schema and triggers", restoreAsReplica]
    ] as const
    for (const [what, restore] of restorations) {
      it.effect(`is noticed if a dump was restored ${what}, and has passed the revision that the client has seen`, () =>
        Effect.gen(function*() {
          const schema = `restored ${what}`
          const sql = yield* PgClient.PgClient
          const kv = Context.get(yield* connect({ schema }), Kv.Kv)
          yield* kv.put("kept", "1")
          yield* sql.withTransaction(dump(schema))
          const watcher = yield* backendOf(kv).watch({ range: KeyRange.prefix("none/") })
          const { revision } = yield* kv.put("lost", "1")
          yield* sql.withTransaction(Effect.andThen(
            restore(schema),
            // Another client writes before the first one looks again.
            Effect.forEach(Array.range(1, 10), () =>
              sql.unsafe(`
              select * from ${
                identifier(schema)
              }.write('{"t": "p", "k": 1, "v": 1}', array['\\x61'::bytea], gen_random_uuid())`))
          ))
          assert.strictEqual((yield* Effect.flip(watcher.take)).reason._tag, "StoreReplaced")
          assert.deepStrictEqual(yield* kv.get("lost"), Option.none())
          assert.isTrue((yield* kv.put("after", "1")).revision > revision)
        }))
    }

    it.effect("does not apply a write twice whose response is lost before the client knows", () =>
      Effect.gen(function*() {
        const { kv, proxy } = yield* behindProxy()
        const { revision } = yield* kv.put("before", "1")
        for (const value of ["1", "2", "3"]) yield* kv.put("lost", value)
        yield* goBack(revision)
        const sql = yield* PgClient.PgClient
        const { reason } = yield* losingResponse(proxy, sql, "once", Effect.flip(kv.put("once", "1")))
        assert.deepStrictEqual([reason._tag, reason.outcome], ["StoreReplaced", "Unknown"])
        assert.strictEqual(Option.getOrThrow(yield* kv.getEntry("once")).version, 1)
      }))
  }
)
