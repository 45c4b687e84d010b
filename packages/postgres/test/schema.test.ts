/**
 * The schema on a real server: its creation and upgrade by several clients at once, beside clients of the version before,
 * and what happens if it is another program's, too old or too new.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresSchema from "@effect-kv/postgres/PostgresSchema"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { kind } from "../src/internal/schema/items.ts"
import { holding, untilRows } from "./support/backends.ts"
import { withoutBackground } from "./support/background.ts"
import { catalog, createVersion1, released, statementsOfVersion1 } from "./support/schemas.ts"
import { connect, database } from "./support/store.ts"

/** A client with a pool of its own, as each process has. */
const processOf = (options: PostgresLayer.Options) =>
  Effect.gen(function*() {
    const { url } = yield* PostgresServer.PostgresServer
    return Context.get(yield* Layer.build(Layer.fresh(PostgresLayer.fromUrl(url, options))), Kv.Kv)
  })

const clientOf = (options: PostgresLayer.Options) => Effect.map(connect(options), Context.get(Kv.Kv))

const failureOf = <A, R>(effect: Effect.Effect<A, KvError.KvError, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason)

const versionOf = (schema: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    Effect.map(
      sql.unsafe<{ readonly version: number }>(`select ${schema}.schema_version() as version`),
      (rows) => rows[0]!.version
    ))

/** Records the transactions that create or replace objects. */
const recordChanges = Effect.flatMap(PgClient.PgClient, (sql) =>
  Effect.andThen(
    sql`create table change (transaction xid8, schema text)`,
    Effect.andThen(
      sql`create function record_change() returns event_trigger language plpgsql as $$ begin
        insert into public.change select pg_current_xact_id(), schema_name from pg_event_trigger_ddl_commands();
      end $$`,
      sql`create event trigger record_change on ddl_command_end execute function record_change()`
    )
  ))

/** How many transactions have changed the schema. */
const transactions = (schema: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) =>
    Effect.map(
      sql<{ readonly count: number }>`
        select count(distinct transaction)::int as count from change where schema = ${schema}`,
      (rows) => rows[0]!.count
    ))

const put = (kv: Kv.Kv, i: number) => kv.put(`key/${i}`, `${i}`)

const eight = Array.from({ length: 8 }, (_, i) => i)

/** Columns of the last item of a response that are new in version 2. They were empty, and clients did not read them. */
const withoutPosition = (row: ReadonlyArray<unknown>): ReadonlyArray<unknown> =>
  row.length === 9 && (row[0] === kind.revision || row[0] === kind.void)
    ? row.map((column, i) => i === 6 || i === 8 ? null : column)
    : row

const reports = (schema: string, name: string, version: number) =>
  `create or replace function ${schema}.${name}() returns integer language sql as $$ select ${version} $$`

const recorded = Layer.tap(database, (context) => Effect.provideContext(recordChanges, context))

layer(recorded.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "the schema",
  (it) => {
    it.effect("eight processes that start at once create it once, and all of their first writes succeed", () =>
      Effect.gen(function*() {
        const kvs = yield* Effect.forEach(eight, () => processOf({ schema: "at_once", deadline: "1 minute" }))
        yield* Effect.forEach(kvs, put, { concurrency: "unbounded" })
        assert.strictEqual(yield* kvs[0]!.count(KeyRange.prefix("key/")), 8)
        assert.strictEqual(yield* transactions("at_once"), 1)
      }))

    for (const isolation of ["read committed", "repeatable read", "serializable"]) {
      it.effect(`processes that wait for another one to create it find it, in ${isolation}`, () =>
        Effect.gen(function*() {
          const { url } = yield* PostgresServer.PostgresServer
          const sql = yield* PgClient.PgClient
          const schema = `waited_in_${isolation.replace(" ", "_")}`
          const session = { application_name: schema, default_transaction_isolation: isolation }
          const pool = PgClient.layer({ url: Redacted.make(url), startupParameters: session })
          const kvs = yield* Effect.forEach([1, 2, 3], () =>
            Effect.map(
              Layer.build(Layer.fresh(PostgresLayer.layer({ schema }).pipe(Layer.provide(pool)))),
              Context.get(Kv.Kv)
            ))
          const release = yield* holding(sql, "select pg_advisory_xact_lock(hashtextextended('effect-kv schema', 0))")
          const puts = yield* Effect.forEach(kvs, (kv, i) => Effect.forkChild(put(kv, i)))
          yield* untilRows(
            sql,
            "three processes that wait to create the schema",
            sql`
            select count(*) from pg_stat_activity where application_name = ${schema} and wait_event = 'advisory'
            having count(*) = 3`
          )
          yield* release
          yield* Effect.forEach(puts, Fiber.join)
          assert.strictEqual(yield* transactions(schema), 1)
        }))
    }

    it.effect("eight processes that start at once upgrade version 1 once, while clients of version 1 work", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* createVersion1("upgraded")
        assert.strictEqual(yield* versionOf("upgraded"), 1)
        const old = Effect.andThen(
          sql`select * from upgraded.write('{"t":"p","k":1,"v":2}', array['old', '1']::bytea[], gen_random_uuid())`,
          sql`select * from upgraded.get_entry('old')`
        )
        yield* old
        const done = { rounds: 0 }
        const working = yield* Effect.forkChild(
          Effect.forever(Effect.tap(old, () => Effect.sync(() => done.rounds++)))
        )
        const kvs = yield* Effect.forEach(eight, () => processOf({ schema: "upgraded", deadline: "1 minute" }))
        yield* Effect.forEach(kvs, put, { concurrency: "unbounded" })
        const enough = done.rounds + 10
        while (done.rounds < enough && working.pollUnsafe() === undefined) yield* Effect.sleep("5 millis")
        assert.isUndefined(working.pollUnsafe(), "a client of version 1 failed")
        yield* Fiber.interrupt(working)
        assert.strictEqual(yield* versionOf("upgraded"), PostgresSchema.version)
        assert.strictEqual(yield* transactions("upgraded"), 2, "one by version 1, and one")
        assert.strictEqual(yield* kvs[0]!.count(KeyRange.prefix("key/")), 8)
        assert.isAtLeast(Option.getOrThrow(yield* kvs[0]!.getEntry("old")).version, done.rounds)
      }))

    it.effect("what clients of version 1 send works while it waits for the upgrade", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const { url } = yield* PostgresServer.PostgresServer
        for (const isolation of ["read committed", "repeatable read", "serializable"]) {
          const schema = `waiting_${isolation.replace(" ", "_")}`
          yield* createVersion1(schema)
          const [put, read, get] = statementsOfVersion1(schema)
          yield* sql.unsafe(put!)
          const clients = yield* PgClient.make({
            url: Redacted.make(url),
            startupParameters: { default_transaction_isolation: isolation }
          }).pipe(Effect.provide(Reactivity.layer))
          const upgraded = yield* holding(sql, PostgresSchema.script(schema))
          const reads = yield* Effect.forEach([read!, get!], (text) => Effect.forkChild(clients.unsafe(text).values))
          const write = yield* Effect.forkChild(Effect.retry(clients.unsafe(put!).values, { times: 3 }))
          yield* untilRows(
            sql,
            "three calls that wait for the upgrade",
            sql`
            select count(*) from pg_stat_activity
            where wait_event_type = 'Lock' and query like ${`%${schema}%`} having count(*) = 3`
          )
          yield* upgraded
          const [transaction, entry] = yield* Effect.forEach(reads, Fiber.join)
          assert.deepStrictEqual(transaction!.at(-1)!.slice(0, 3), [kind.revision, null, 2n], isolation)
          assert.deepStrictEqual(entry!.map(([revision, , ...revisions]) => [revision, ...revisions]), [
            [2n, 2n, 2n, 1n, 0n]
          ])
          assert.deepStrictEqual((yield* Fiber.join(write)).at(-1)!.slice(0, 3), [kind.revision, null, 3n])
        }
      }))

    it.effect("roles that may use version 1 may go on after the upgrade, also if functions are not public", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const { port } = yield* PostgresServer.PostgresServer
        yield* sql`create role hardened login`
        yield* sql`alter default privileges revoke execute on functions from public`
        yield* createVersion1("hardened")
        yield* sql`grant usage on schema hardened to hardened`
        yield* sql`grant select, insert, update, delete on all tables in schema hardened to hardened`
        yield* sql`grant execute on all functions in schema hardened to hardened`
        yield* sql.unsafe(PostgresSchema.script("hardened"))
        yield* sql`alter default privileges grant execute on functions to public`
        const pg = yield* PgClient.make({
          url: Redacted.make(`postgres://hardened@127.0.0.1:${port}/postgres`)
        }).pipe(Effect.provide(Reactivity.layer))
        for (const statement of statementsOfVersion1("hardened")) yield* pg.unsafe(statement)
        const kv = yield* Effect.provideService(clientOf({ schema: "hardened" }), PgClient.PgClient, pg)
        yield* kv.put("a", "1")
        yield* kv.get("a").pipe(DistLock.withDistLock("lock"), Effect.provideService(Kv.Kv, kv))
      }))

    it.effect("what clients of version 1 send works after the upgrade", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* createVersion1("before")
        yield* createVersion1("after")
        // Closed before the statements, because its sweeper would clean the history that they compact.
        yield* Effect.scoped(Effect.flatMap(clientOf({ schema: "after" }), (kv) => kv.get("a")))
        const results = (schema: string) =>
          Effect.forEach(statementsOfVersion1(schema), (statement) =>
            Effect.map(
              sql.unsafe(statement).values,
              // The id of a lease is random.
              (rows) => statement.includes("grant_lease(null") ? rows.length : rows.map(withoutPosition)
            ))
        assert.deepStrictEqual(yield* results("after"), yield* results("before"))
      }))

    it.effect("an upgraded schema is the same as a new one, and the script does both, any number of times", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const script = (schema: string) => sql.unsafe(PostgresSchema.script(schema))
        yield* createVersion1("oldone")
        const tooOld = yield* failureOf(
          Effect.flatMap(clientOf({ schema: "oldone", migrate: false }), (kv) => kv.get("a"))
        )
        assert.strictEqual(tooOld._tag, "InvalidRequest")
        assert.include(tooOld.message, "has version 1")
        assert.include(tooOld.message, "PostgresSchema.script(\"oldone\")")
        yield* script("oldone")
        yield* script("newone")
        const once = yield* catalog("newone")
        assert.deepStrictEqual(yield* catalog("oldone"), once)
        const kv = yield* clientOf({ schema: "newone", migrate: false })
        yield* kv.put("a", "1")
        yield* script("newone")
        assert.deepStrictEqual(yield* catalog("newone"), once)
        assert.deepStrictEqual(yield* kv.get("a"), Option.some("1"))
      }))

    it.effect("a newer schema is used if it supports this client, and otherwise the error says what to update", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* sql.unsafe(PostgresSchema.script("newer"))
        const running = yield* clientOf({ schema: "newer" })
        yield* running.put("a", "1")
        const next = PostgresSchema.version + 1
        yield* sql.unsafe(reports("newer", "schema_version", next))
        assert.deepStrictEqual(
          yield* Effect.flatMap(clientOf({ schema: "newer" }), (kv) => kv.get("a")),
          Option.some("1")
        )
        yield* sql.unsafe(reports("newer", "oldest_client", next))
        const refused = yield* failureOf(Effect.flatMap(clientOf({ schema: "newer" }), (kv) => kv.get("a")))
        assert.strictEqual(refused._tag, "InvalidRequest")
        assert.include(refused.message, `has version ${next}`)
        assert.include(refused.message, "update @effect-kv/postgres")
        // The newer version has dropped what the running client calls.
        yield* sql`drop function newer.put_entries`
        assert.include((yield* failureOf(running.put("a", "2"))).message, "update @effect-kv/postgres")
        assert.strictEqual(yield* versionOf("newer"), next)
      }))

    it.effect("a schema that another program uses is refused, and is not changed", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* sql`create schema shop`
        yield* sql`create table shop.store (name text)`
        yield* sql`create schema migrated`
        yield* sql`create function migrated.schema_version() returns text language sql as $$ select '2026-11' $$`
        yield* sql`create schema numbered`
        yield* sql.unsafe(reports("numbered", "schema_version", 1))
        yield* sql`create schema dated`
        yield* sql.unsafe(reports("dated", "schema_version", 20_261_129))
        for (const schema of ["shop", "migrated", "numbered", "dated"]) {
          const before = yield* catalog(schema)
          const reason = yield* failureOf(Effect.flatMap(clientOf({ schema }), (kv) => kv.put("a", "1")))
          assert.strictEqual(reason._tag, "InvalidRequest", reason.message)
          assert.include(reason.message, "belongs to another program")
          assert.include(reason.message, "option schema")
          assert.deepStrictEqual(yield* catalog(schema), before)
        }
        const error = yield* Effect.flip(sql.unsafe(PostgresSchema.script("shop")))
        assert.include(`${error.reason.cause}`, "belongs to another program")
      }))

    it.effect("a schema may have any name, and an empty one that exists is used", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* sql`create schema empty`
        const names = ["empty", `it's "quoted" $fn$ $effect_kv$ \\0024 %`, "Größe; drop table x", "s".repeat(63)]
        for (const schema of names) {
          const kv = yield* clientOf({ schema })
          const other = yield* clientOf({ schema })
          const events = yield* Effect.forkChild(
            Stream.runHead(kv.watch(KeyRange.prefix("a"), { startRevision: 1n })),
            { startImmediately: true }
          )
          const order = yield* Effect.forEach([kv, other], (kv, i) =>
            Effect.succeed(i).pipe(DistLock.withDistLock("name"), Effect.provideService(Kv.Kv, kv)), {
            concurrency: "unbounded"
          })
          assert.deepStrictEqual(order, [0, 1])
          yield* kv.put("a", schema)
          assert.deepStrictEqual(yield* other.get("a"), Option.some(schema))
          assert.strictEqual(Option.getOrThrow(yield* Fiber.join(events)).key, "a")
          yield* sql.unsafe(PostgresSchema.script(schema))
        }
      }))

    it.effect("a schema that is dropped while a client runs is created again, and is another store", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        // A sweeper might be the first to notice.
        const kv = yield* Effect.provideService(
          clientOf({ schema: "dropped" }),
          PgClient.PgClient,
          withoutBackground(sql, "dropped")
        )
        yield* kv.get("a")
        yield* sql`drop schema dropped cascade`
        assert.strictEqual((yield* failureOf(kv.put("a", "1")))._tag, "StoreReplaced")
        yield* kv.put("a", "2")
        assert.deepStrictEqual(yield* kv.get("a"), Option.some("2"))
      }))

    it.effect("a check that failed at once is repeated by the next call", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const failure = yield* Effect.flip(sql`no statement`)
        let fails = true
        // As a pool that fails before it does anything.
        const reserve = Effect.suspend(() => fails ? Effect.fail(failure) : sql.reserve)
        const failing = new Proxy(sql, {
          get: (target, name) => name === "reserve" ? reserve : Reflect.get(target, name)
        })
        const kv = yield* Effect.provideService(clientOf({ schema: "repeated" }), PgClient.PgClient, failing)
        assert.strictEqual((yield* failureOf(kv.get("a")))._tag, "InvalidRequest")
        fails = false
        assert.deepStrictEqual(yield* kv.get("a"), Option.none())
      }))

    it.effect("a change of the script after a release raises the version", () =>
      Effect.sync(() => {
        const newest = released.at(-1)!
        if (newest.version === PostgresSchema.version) {
          assert.strictEqual(PostgresSchema.script(), newest.text, "see internal/schema/version.ts")
        } else assert.strictEqual(PostgresSchema.version, newest.version + 1)
      }))
  }
)
