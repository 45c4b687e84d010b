/**
 * Histories of real clients on a real server, checked against the store's own history as read by plain SQL.
 */
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import type * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { administrator, freeze, holding } from "./support/backends.ts"
import { checked, type Progress, record, type Run } from "./support/recorded.ts"
import { database, databaseAt } from "./support/store.ts"
import { until } from "./support/until.ts"

type Environment = PgClient.PgClient | PostgresServer.PostgresServer | Scope.Scope

const test = (title: string, body: Effect.Effect<void, unknown, Environment>) =>
  it.live(
    title,
    () =>
      Effect.scoped(body).pipe(
        Random.withSeed("histories"),
        Effect.provide(database),
        Effect.provide(PostgresServer.layer())
      ),
    180_000
  )

/** Calls that a fault lasts longer than. */
const impatient: Run = { operations: 60, locks: false, client: { deadline: "1 second" } }

/** Longer than the deadline of the calls, and than what is left of it after the search for an outcome. */
const longer = Effect.sleep("1500 millis")

describe("histories on Postgres", () => {
  test(
    "histories are correct with and without batching",
    Effect.gen(function*() {
      const run = yield* record({ operations: 40 }, () => Effect.void)
      assert.isEmpty(checked(run).unknown.applied)
      assert.isAbove(run.history.holdings.length, 10)
    })
  )

  test(
    "histories are correct across kill -9 of the server, and the outcomes of writes without a response are found",
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const run = yield* record(
        { operations: 100, locks: false, interrupted: 25 },
        ({ calls }) => Effect.andThen(calls(200), server.restart)
      )
      const { unknown } = checked(run)
      // Those of interrupted writes, and of transactions whose response the log does not determine.
      assert.isAbove(unknown.applied.length + unknown.notApplied.length, 2)
    })
  )

  test(
    "histories are correct across a stop of the whole server (SIGSTOP) beyond the deadline of all calls",
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const run = yield* record(impatient, ({ calls }) =>
        Effect.gen(function*() {
          yield* calls(150)
          yield* server.pause
          yield* Effect.ensuring(longer, server.resume)
        }))
      const { unknown } = checked(run)
      assert.isAbove(unknown.applied.length + unknown.notApplied.length, 0)
    })
  )

  test(
    "histories are correct across a stop of the process that holds the lock of the store",
    Effect.gen(function*() {
      const sql = yield* administrator
      /** A writer locks the row of the store, for which the others wait, and then writes to the log. */
      const blocked = sql<{ readonly pid: number }>`
        select pid from pg_stat_activity where wait_event_type = 'Lock' and wait_event = 'relation' and pid = any(
          select unnest(pg_blocking_pids(others.pid)) from pg_stat_activity others where wait_event_type = 'Lock'
        )`
      /** Stops the writer that waits for the log. If it has reached its deadline before it stopped, the next one. */
      const freezeHolder: Effect.Effect<Effect.Effect<void>, unknown, Scope.Scope> = Effect.gen(function*() {
        const [row] = yield* until("a writer that others wait for", blocked, (rows) => rows.length > 0)
        const thaw = yield* freeze(row!.pid)
        if ((yield* blocked).some(({ pid }) => pid === row!.pid)) return thaw
        yield* thaw
        return yield* freezeHolder
      })
      const run = yield* record(impatient, ({ calls, whileRunning }) =>
        Effect.gen(function*() {
          yield* calls(150)
          const release = yield* holding(sql, "lock table effect_kv.log in share mode")
          const thaw = yield* whileRunning(freezeHolder)
          yield* release
          yield* longer
          yield* thaw
        }))
      const { unknown } = checked(run)
      assert.isAbove(unknown.applied.length + unknown.notApplied.length, 0)
    })
  )

  test(
    "histories are correct on a link that is slow, is cut, and loses responses",
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const proxy = yield* TcpProxy.make({ target: server.port })
      const faults = Effect.fnUntraced(function*({ calls }: Progress) {
        yield* calls(30)
        yield* proxy.delay("10 millis")
        yield* calls(50)
        yield* proxy.heal
        for (const count of [60, 75, 90]) yield* Effect.andThen(calls(count), proxy.cut)
        yield* calls(105)
        yield* proxy.dropResponses
        yield* longer
        yield* proxy.heal
      })
      const run = yield* record({ ...impatient, operations: 20 }, faults).pipe(
        Effect.provide(Layer.fresh(databaseAt(proxy.port)))
      )
      const { unknown } = checked(run)
      assert.isAbove(unknown.applied.length + unknown.notApplied.length, 0)
    })
  )
})
