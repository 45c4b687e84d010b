/**
 * The outcome of writes whose response is lost: the store knows it, so the client finds out.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as Op from "@effect-kv/core/Op"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as backends from "./support/backends.ts"
import { connect } from "./support/store.ts"
import { until } from "./support/until.ts"

const behindProxy = backends.behindProxy()

const entryOf = (kv: Kv.Kv, key: string) => Effect.map(kv.getEntry(key), Option.getOrThrow)

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("lost responses", (it) => {
  it.effect("a put that was applied before the connection broke succeeds, and is applied once", () =>
    Effect.gen(function*() {
      const { kv, proxy } = yield* behindProxy
      yield* proxy.cutAfterForwarding({ linger: "200 millis" })
      const { revision } = yield* kv.put("applied", "1")
      const entry = yield* entryOf(kv, "applied")
      assert.deepStrictEqual([entry.modRevision, entry.version], [revision, 1])
    }))

  it.effect("a put that did not reach the server is retried, and applied once", () =>
    Effect.gen(function*() {
      const { kv, proxy } = yield* behindProxy
      yield* proxy.cutBeforeForwarding()
      const { revision } = yield* kv.put("resent", "1")
      const entry = yield* entryOf(kv, "resent")
      assert.deepStrictEqual([entry.modRevision, entry.version], [revision, 1])
    }))

  it.effect("a conditional transaction that was applied before the connection broke succeeds", () =>
    Effect.gen(function*() {
      const { kv, proxy } = yield* behindProxy
      yield* proxy.cutAfterForwarding({ linger: "200 millis" })
      const result = yield* kv.txn({ if: [Compare.missing("txn")], then: [Op.put("txn", "1")] })
      assert.isTrue(result.succeeded)
      assert.strictEqual((yield* entryOf(kv, "txn")).version, 1)
    }))

  it.effect("a transaction whose results are lost is Indeterminate, and the error says that it was applied", () =>
    Effect.gen(function*() {
      const { kv, proxy } = yield* behindProxy
      const other = (yield* behindProxy).kv
      yield* proxy.dropResponses
      const call = yield* Effect.forkChild(Effect.flip(kv.txn({ then: [Op.put("read", "1"), Op.range(KeyRange.all)] })))
      // If the search for the outcome came first, the write would be void, and made again.
      yield* until("the write to be applied", other.get("read"), Option.isSome)
      yield* proxy.heal
      const error = yield* Fiber.join(call)
      assert.strictEqual(error.reason._tag, "Indeterminate")
      assert.include(error.message, "was applied at revision")
      assert.strictEqual((yield* entryOf(kv, "read")).version, 1)
    }))

  it.effect("a write that was voided is rejected when it arrives later", () =>
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const sql = yield* PgClient.make({ url: Redacted.make(server.url) })
      const { kv } = yield* behindProxy
      const request = "00000000-0000-4000-8000-000000000001"
      const put = { t: "p", k: 1, v: 1 }
      yield* sql`select * from effect_kv.resolve(${request}::uuid, 0)`
      const rows = yield* sql<{ readonly o_kind: number }>`
        select o_kind from effect_kv.write(${JSON.stringify(put)}::jsonb, array['\\x6c'::bytea], ${request}::uuid)`
      assert.deepStrictEqual(rows.map((row) => row.o_kind), [10])
      assert.isTrue(Option.isNone(yield* kv.get("l")))
    }).pipe(Effect.provide(Reactivity.layer)))

  it.effect("the id of a voided write is kept for an hour, also after its history was cleaned", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const sql = yield* PgClient.make({ url: Redacted.make(url) })
      const context = yield* Effect.provideService(connect({ schema: "voids" }), PgClient.PgClient, sql)
      const kv = Context.get(context, Kv.Kv)
      yield* Effect.forEach(["1", "2", "3"], (value) => kv.put("k", value))
      yield* sql`
        insert into voids.void (request, created_at)
        select gen_random_uuid(), clock_timestamp() - minutes * interval '1 minute' from unnest(array[1, 59, 61]) minutes`
      yield* sql`update voids.store set cleanable = revision`
      yield* sql`select voids.clean(100)`
      const kept = yield* sql<{ readonly minutes: number }>`
        select round(extract(epoch from clock_timestamp() - created_at) / 60)::int as minutes from voids.void order by 1`
      assert.deepStrictEqual(kept.map(({ minutes }) => minutes), [1, 59])
      // The client knew all that the store has.
      const late = yield* sql<{ readonly o_kind: number }>`
        select x.o_kind from voids.void v cross join voids.store s
        cross join voids.put_entries(array['late'::bytea], array['1'::bytea], v.request, s.revision) x`
      assert.deepStrictEqual(late.map((row) => row.o_kind), [10, 10])
      assert.isTrue(Option.isNone(yield* kv.get("late")))
    }).pipe(Effect.provide(Reactivity.layer)))

  it.effect("a write in flight is not made again in a store that has gone back since, whatever has happened there", () =>
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const sql = yield* PgClient.make({ url: Redacted.make(server.url) })
      const { kv, proxy } = yield* behindProxy
      yield* kv.put("before", "1")
      const other = (yield* behindProxy).kv
      yield* proxy.dropResponses
      const call = yield* Effect.forkChild(Effect.flip(kv.put("back", "1")))
      yield* until("the write to be applied", other.get("back"), Option.isSome)
      // As if a primary without the last writes had applied this one, and restarted since: the store has two new epochs.
      const beginEpoch = (id: number) =>
        sql`insert into effect_kv.epoch select max(e.number) + 1, ${id}, 1 from effect_kv.epoch e`
      yield* beginEpoch(1)
      yield* beginEpoch(2)
      yield* sql`update effect_kv.store set epoch = 2`
      yield* proxy.heal
      const error = yield* Fiber.join(call)
      assert.strictEqual(error.reason._tag, "StoreReplaced")
      assert.strictEqual(error.outcome, "Unknown")
      assert.strictEqual((yield* entryOf(kv, "back")).version, 1)
    }).pipe(Effect.provide(Reactivity.layer)))

  it.effect("a confirmed write is on the disk, even if the role has synchronous_commit off", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const { kv: other } = yield* behindProxy
      yield* other.put("before", "1")
      const admin = yield* PgClient.make({ url: Redacted.make(`postgres://postgres@127.0.0.1:${port}/postgres`) })
      yield* admin`create role lazy login superuser`
      yield* admin`alter role lazy set synchronous_commit = off`
      const pg = yield* PgClient.make({ url: Redacted.make(`postgres://lazy@127.0.0.1:${port}/postgres`) })
      const kv = Context.get(yield* Effect.provideService(connect(), PgClient.PgClient, pg), Kv.Kv)
      yield* kv.put("before", "2")
      let flushed = 0
      for (let i = 0; i < 5; i++) {
        yield* kv.put("lazy", `${i}`)
        const [row] = yield* admin<{ readonly flushed: boolean }>`
          select pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn() as flushed`
        if (row?.flushed === true) flushed++
      }
      // The server itself may write to its log between a put and the query.
      assert.isAtLeast(flushed, 4)
    }).pipe(Effect.provide(Reactivity.layer)))
})
