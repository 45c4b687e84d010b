/**
 * Reads whose response arrives after the client has seen a later write on another server: of one that was restarted, and
 * of a promoted replica.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as Kv from "@effect-kv/core/Kv"
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { lastStatement, untilExecuted } from "./support/backends.ts"
import { Pair, pairLayer, pool } from "./support/replication.ts"
import { connect } from "./support/store.ts"

/**
 * A client whose first connection leads to a server through `slow`. Later ones lead to where `address` leads by then. The
 * first one has written `old` already.
 */
const connectSlowly = Effect.fnUntraced(function*(target: number) {
  const slow = yield* TcpProxy.make({ target })
  const address = yield* TcpProxy.make({ target: slow.port })
  const sql = yield* pool(address.port, { maxConnections: 4 })
  const kv = Context.get(yield* Effect.provideService(connect(), PgClient.PgClient, sql), Kv.Kv)
  yield* kv.put("k", "old")
  return { kv, sql, slow, address }
})

/** Takes an idle connection out of the pool, or opens one. Returns its process, and the effect that gives it back. */
const take = Effect.fnUntraced(function*(sql: PgClient.PgClient) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const connection = yield* Scope.provide(sql.reserve, scope)
  const rows = yield* connection.executeValues("select pg_backend_pid()", [])
  return { pid: rows[0]![0] as number, giveBack: Scope.close(scope, Exit.void) }
})

const read = (kv: Kv.Kv) => Effect.forkChild(Deadline.within(kv.get("k"), "20 seconds"))

const write = (kv: Kv.Kv) => Deadline.within(kv.put("k", "new"), "20 seconds")

describe("a read whose response arrives late", () => {
  it.live(
    "may show what was before a write that it overlaps, if the server was restarted in between; the next one may not",
    () =>
      Effect.gen(function*() {
        const server = yield* PostgresServer.make()
        const { address, kv, slow, sql } = yield* connectSlowly(server.port)
        const admin = yield* pool(server.port)
        const { giveBack, pid } = yield* take(sql)
        yield* address.retarget(server.port)
        const last = yield* lastStatement(admin, pid)
        yield* giveBack
        yield* slow.blackhole({ direction: "toClient" })
        const slowRead = yield* read(kv)
        yield* untilExecuted(admin, pid, last)
        yield* server.restart
        yield* write(kv)
        yield* slow.heal
        assert.include(["old", "new"], Option.getOrThrow(yield* Fiber.join(slowRead)))
        assert.deepStrictEqual(yield* kv.get("k"), Option.some("new"))
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "shows what a promoted replica has, if the client had seen a write there before it sent the read to the old primary",
    () =>
      Effect.gen(function*() {
        const { caughtUp, onPrimary, onStandby, primary, standby } = yield* Pair
        const { address, kv, slow, sql } = yield* connectSlowly(primary.port)
        yield* caughtUp
        const toOld = yield* take(sql)
        yield* address.retarget(standby.port)
        yield* onStandby`select pg_promote()`
        yield* write(kv)
        const toNew = yield* take(sql)
        assert.notStrictEqual(toNew.pid, toOld.pid)
        const last = yield* lastStatement(onPrimary, toOld.pid)
        yield* toOld.giveBack
        yield* slow.blackhole({ direction: "toClient" })
        // Only the connection to the old primary is idle.
        const slowRead = yield* read(kv)
        yield* untilExecuted(onPrimary, toOld.pid, last)
        yield* primary.kill
        yield* toNew.giveBack
        yield* slow.heal
        assert.deepStrictEqual(yield* Fiber.join(slowRead), Option.some("new"))
      }).pipe(Effect.scoped, Effect.provide(pairLayer)),
    60_000
  )
})
