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
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { lastStatement, untilExecuted } from "./support/backends.ts"
import { withoutBackground } from "./support/background.ts"
import { Pair, pairLayer, pool } from "./support/replication.ts"
import { connect } from "./support/store.ts"

/**
 * A client on two pools, which `use` switches. `first` has one connection, through `slow`, and is used until then. The client has
 * written `old`.
 */
const connectSlowly = Effect.fnUntraced(function*(firstPort: number, laterPort: number) {
  const slow = yield* TcpProxy.make({ target: firstPort })
  const first = yield* pool(slow.port, { maxConnections: 1 })
  const later = yield* pool(laterPort)
  let current = first
  const reserve = Effect.suspend(() => current.reserve)
  const switching = new Proxy(later, {
    get: (target, name) => name === "reserve" ? reserve : Reflect.get(target, name)
  })
  const context = yield* Effect.provideService(connect(), PgClient.PgClient, withoutBackground(switching))
  const kv = Context.get(context, Kv.Kv)
  yield* kv.put("k", "old")
  const [row] = yield* first<{ readonly pid: number }>`select pg_backend_pid() as pid`
  const use = (which: "first" | "later") =>
    Effect.sync(() => {
      current = { first, later }[which]
    })
  return { kv, pid: row!.pid, slow, use }
})

const read = (kv: Kv.Kv) => Effect.forkChild(Deadline.within(kv.get("k"), "20 seconds"))

const write = (kv: Kv.Kv) => Deadline.within(kv.put("k", "new"), "20 seconds")

describe("a read whose response arrives late", () => {
  it.live(
    "may show what was before a write that it overlaps, if the server was restarted in between; the next one may not",
    () =>
      Effect.gen(function*() {
        const server = yield* PostgresServer.make()
        const { kv, pid, slow, use } = yield* connectSlowly(server.port, server.port)
        const admin = yield* pool(server.port)
        const last = yield* lastStatement(admin, pid)
        yield* slow.blackhole({ direction: "toClient" })
        const slowRead = yield* read(kv)
        yield* untilExecuted(admin, pid, last)
        yield* use("later")
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
        const { kv, pid, slow, use } = yield* connectSlowly(primary.port, standby.port)
        yield* caughtUp
        yield* onStandby`select pg_promote()`
        yield* use("later")
        yield* write(kv)
        yield* use("first")
        const last = yield* lastStatement(onPrimary, pid)
        yield* slow.blackhole({ direction: "toClient" })
        const slowRead = yield* read(kv)
        yield* untilExecuted(onPrimary, pid, last)
        yield* use("later")
        yield* primary.kill
        yield* slow.heal
        assert.deepStrictEqual(yield* Fiber.join(slowRead), Option.some("new"))
      }).pipe(Effect.scoped, Effect.provide(pairLayer)),
    60_000
  )
})
