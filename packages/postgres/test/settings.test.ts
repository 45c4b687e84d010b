/**
 * Settings of the database or the role, and encodings, that must not matter.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { administrator } from "./support/backends.ts"
import { connect } from "./support/store.ts"

const settings = {
  standard_conforming_strings: "off",
  backslash_quote: "off",
  bytea_output: "escape",
  DateStyle: "SQL, DMY",
  IntervalStyle: "sql_standard",
  TimeZone: "Asia/Kathmandu",
  array_nulls: "off",
  search_path: "pg_temp",
  quote_all_identifiers: "on",
  transform_null_equals: "on",
  check_function_bodies: "off",
  session_replication_role: "replica",
  plan_cache_mode: "force_custom_plan",
  enable_indexscan: "off",
  jit_above_cost: "0",
  "plpgsql.variable_conflict": "use_column",
  "plpgsql.extra_errors": "all",
  lock_timeout: "2s",
  statement_timeout: "5s",
  default_transaction_isolation: "serializable",
  default_transaction_deferrable: "on"
}

/** A database with settings of its own. */
const newDatabase = Effect.fnUntraced(function*(name: string, encoding: string, of: Readonly<Record<string, string>>) {
  const { port } = yield* PostgresServer.PostgresServer
  const sql = yield* administrator
  yield* sql.unsafe(`create database ${name} encoding '${encoding}' locale 'C' template template0`)
  for (const [setting, value] of Object.entries(of)) {
    yield* sql.unsafe(`alter database ${name} set ${setting} to ${setting === "search_path" ? value : `'${value}'`}`)
  }
  return yield* PgClient.make({ url: Redacted.make(`postgres://postgres@127.0.0.1:${port}/${name}`) }).pipe(
    Effect.provide(Reactivity.layer)
  )
})

/** Uses each function of the schema. */
const useAll = Effect.fnUntraced(function*(sql: PgClient.PgClient) {
  const context = yield* Effect.provideService(connect({ schema: "it's \\ $1 \"ä\"" }), PgClient.PgClient, sql)
  const kv = Context.get(context, Kv.Kv)
  const store = Context.get(context, PostgresStore.PostgresStore)
  const key = "ä\\x'$\n\0"
  const value = Uint8Array.of(0, 255, 92, 39)
  const { revision } = yield* kv.put(key, value)
  const events = yield* Effect.forkChild(
    Stream.runCollect(Stream.take(kv.watch(KeyRange.prefix("ä"), { startRevision: revision }), 3)),
    { startImmediately: true }
  )
  yield* kv.put(key, value)
  const entry = Option.getOrThrow(yield* kv.getEntry(key))
  assert.deepStrictEqual([entry.version, entry.value], [2, value])
  const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 minute" })
  yield* kv.compareAndSet("leased", 0n, "1")
  yield* kv.put("leased", "1", { lease: id })
  yield* backendOf(kv).leaseKeepAlive(id)
  const deleted = yield* kv.txn({
    if: [Compare.exists("leased"), Compare.value("leased", "=", "1")],
    then: [Op.deleteRange(KeyRange.prefix("ä"), { previous: true })]
  })
  assert.isTrue(deleted.succeeded)
  assert.deepStrictEqual(Array.from(yield* Fiber.join(events), (event) => event._tag), ["Put", "Put", "Delete"])
  assert.strictEqual((yield* kv.range(KeyRange.all, { revision })).count, 1)
  yield* kv.put("a", "1")
  yield* Effect.all(["b", "c", "d"].map((each) => kv.put(each, each)), { concurrency: "unbounded" })
  yield* backendOf(kv).leaseRevoke(id)
  const order = { by: "version", direction: "descending" } as const
  assert.strictEqual((yield* kv.range(KeyRange.all, { order, limit: 1 })).count, 4)
  yield* store.compact(revision)
  yield* sql.withTransaction(store.fence).pipe(DistLock.withDistLock("lock"), Effect.provide(context))
})

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("a store", (it) => {
  it.effect("works whatever the settings of its database are", () =>
    Effect.flatMap(newDatabase("strange", "UTF8", settings), useAll))

  it.effect("works in a database with a publication for all tables, as change data capture makes", () =>
    Effect.gen(function*() {
      const sql = yield* newDatabase("published", "UTF8", {})
      yield* sql`create publication everything for all tables`
      yield* useAll(sql)
    }))

  for (const encoding of ["SQL_ASCII", "LATIN1"]) {
    it.effect(`works in a database whose encoding is ${encoding}`, () =>
      Effect.flatMap(newDatabase(encoding.toLowerCase(), encoding, {}), useAll))
  }
})
