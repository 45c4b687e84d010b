/**
 * Clients that stop or die while the database holds the lock of the store for them: the writers behind them must not starve.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as calls from "../src/internal/calls.ts"
import type { Connection } from "../src/internal/connection.ts"
import { administrator, behindProxy, untilProcess } from "./support/backends.ts"
import { withoutSync } from "./support/raw.ts"

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("writers", (it) => {
  it.effect("go on after a client stopped reading the large response to its write", () =>
    Effect.gen(function*() {
      const sql = yield* administrator
      const writer = yield* behindProxy()
      const { kv, pid, proxy } = yield* behindProxy({ deadline: "1 minute" })
      const value = new Uint8Array(1_000_000)
      yield* Effect.forEach(Array.from({ length: 24 }, (_, i) => i), (i) => writer.kv.put(`large/${i}`, value))
      yield* proxy.blackhole({ direction: "toClient" })
      yield* Effect.forkChild(kv.txn({ then: [Op.put("stopped", "1"), Op.range(KeyRange.prefix("large/"))] }))
      yield* untilProcess(sql, sql`pid = ${pid} and wait_event = 'ClientWrite'`)
      yield* Deadline.within(writer.kv.put("next", "1"), "20 seconds")
      yield* proxy.heal
    }))

  it.effect("go on after the host of a client lost its power between its statement and the message that commits it", () =>
    Effect.gen(function*() {
      const sql = yield* administrator
      const { kv } = yield* behindProxy()
      yield* withoutSync(
        "select * from effect_kv.put_entries(array['k'::bytea], array['v'::bytea], gen_random_uuid(), 1) -- dead"
      )
      // It has executed the statement, and waits for the message.
      yield* untilProcess(sql, sql`query like '%-- dead' and state = 'active' and wait_event = 'ClientRead'`)
      yield* Deadline.within(kv.put("next", "1"), "30 seconds")
      assert.deepStrictEqual(yield* kv.get("k"), Option.none())
    }))

  it.effect("may take longer than it takes to find out that a client is dead", () =>
    Effect.gen(function*() {
      const sql = yield* administrator
      const { kv } = yield* behindProxy({ deadline: "1 minute" })
      yield* kv.put("long/1", "1")
      yield* sql`
        create function effect_kv.slow() returns trigger language plpgsql as 'begin perform pg_sleep(16); return null; end'`
      yield* sql`
        create trigger slow after delete on effect_kv.entry for each statement execute function effect_kv.slow()`
      const { deleted } = yield* Effect.ensuring(
        kv.deleteRange(KeyRange.prefix("long/")),
        Effect.orDie(sql`drop trigger slow on effect_kv.entry`)
      )
      assert.strictEqual(deleted, 1)
    }), 120_000)

  it.effect("are not kept waiting by any statement that locks, unless the server bounds its transactions itself", () =>
    Effect.gen(function*() {
      const sql = yield* administrator
      yield* behindProxy()
      const boundAfter = (statement: string, own: string) =>
        sql.withTransaction(Effect.gen(function*() {
          yield* sql.unsafe(`set local transaction_timeout = '${own}'`)
          yield* sql.unsafe(statement)
          const [row] = yield* sql<{ readonly bound: string }>`select current_setting('transaction_timeout') as bound`
          return row!.bound
        }))
      yield* sql`insert into effect_kv.lease values (5, 60, clock_timestamp() + interval '1 minute')`
      const to = { schema: "effect_kv" } as Connection
      const renewal = calls.keepLeaseAlive(to, 5n).sql.replaceAll("$1", "5")
      const voided = "'00000000-0000-4000-8000-000000000002'"
      yield* sql.unsafe(`insert into effect_kv.void values (${voided})`)
      const entryWrite = (params: string, request: string) =>
        `select * from effect_kv.write_entry(${params}, null, null, ${request}, null, null)`
      const statements = [
        "select * from effect_kv.put_entries(array['k'::bytea], array['v'::bytea], gen_random_uuid(), 1)",
        `select * from effect_kv.write('{"t":"p","k":1,"v":2}', array['a', 'b']::bytea[], gen_random_uuid())`,
        // Applied, rejected by its condition, rejected for its lease, and declared void.
        entryWrite("'a', false, 0, 'a', 'b', 0", "gen_random_uuid()"),
        entryWrite("'a', false, 1, 'a', 'b', 0", "gen_random_uuid()"),
        entryWrite("null, false, null, 'a', 'b', 99", "gen_random_uuid()"),
        entryWrite("null, false, null, 'a', 'b', 0", voided),
        `select * from effect_kv.put_entries(array['k'::bytea, 'l'], array['v'::bytea, 'w'], ${voided}, 1)`,
        `select * from effect_kv.write('{"t":"p","k":1,"v":2}', array['a', 'b']::bytea[], ${voided})`,
        "select * from effect_kv.resolve(gen_random_uuid(), 1)",
        "select * from effect_kv.grant_lease(7, 60)",
        renewal,
        "select effect_kv.revoke_lease(5)",
        "select effect_kv.sweep()",
        "select * from effect_kv.compact(1)",
        "select effect_kv.rotate()",
        // It locks only if there is something to clean.
        "do $$ begin update effect_kv.store set cleanable = 1; perform effect_kv.clean(10); end $$"
      ]
      for (const statement of statements) {
        assert.strictEqual(yield* boundAfter(statement, "0"), "15s", statement)
        assert.strictEqual(yield* boundAfter(statement, "1min"), "1min", statement)
      }
    }))
})
