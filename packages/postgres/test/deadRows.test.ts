/**
 * A key that is created and deleted again and again, as that of a lock, leaves dead rows until the next vacuum. Searches
 * mark their index entries, so that later ones pass them by.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import { connect } from "./support/store.ts"

it.live("the dead rows of a key are searched once", () =>
  Effect.gen(function*() {
    const { url } = yield* PostgresServer.PostgresServer
    // One connection, whose server process can be told to report its statistics.
    const sql = yield* PgClient.make({ url: Redacted.make(url), maxConnections: 1 })
    const context = yield* Effect.provideService(connect({ batching: false }), PgClient.PgClient, sql)
    const backend = backendOf(Context.get(context, Kv.Kv))
    const put = Op.put("k", "v")
    const remove = Op.delete("k")
    const ifMissing = (op: Op.Op) => Op.txn({ if: [Compare.createRevision("k", "=", 0n)], then: [op], else: [] })
    // The functions for one key, and the general one.
    const kinds = {
      "one key": [ifMissing(put), remove],
      any: [Op.txn({ if: [], then: [ifMissing(put)], else: [] }), Op.txn({ if: [], then: [remove, remove], else: [] })]
    }
    yield* backend.execute(put)
    yield* sql`alter table effect_kv.entry set (autovacuum_enabled = off)`
    const entriesRead = Effect.gen(function*() {
      yield* sql`select pg_stat_force_next_flush()`
      const [row] = yield* sql<{ readonly count: number }>`
        select idx_tup_read::int as count from pg_stat_user_indexes where indexrelname = 'entry_key'`
      return row!.count
    })
    for (const [kind, pair] of Object.entries(kinds)) {
      yield* backend.execute(remove)
      const before = yield* entriesRead
      for (let i = 0; i < 200; i++) yield* Effect.forEach(pair, (op) => backend.execute(op))
      const read = (yield* entriesRead) - before
      // If each search found all of them, 200 * 200 / 2 and more.
      assert.isBelow(read, 2000, kind)
    }
  }).pipe(Effect.scoped, Effect.provide(Reactivity.layer), Effect.provide(PostgresServer.layer())))
