/**
 * Connections that are silent: the other end is gone, and no packet says so, as after a loss of power, or if a firewall has
 * forgotten them.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { readFileSync } from "node:fs"
import * as backend from "../src/internal/backend.ts"
import * as connection from "../src/internal/connection.ts"
import * as options from "../src/internal/options.ts"
import { administrator, behindProxy } from "./support/backends.ts"
import { pool } from "./support/replication.ts"
import { connect } from "./support/store.ts"
import { until, untilTrue } from "./support/until.ts"

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("silent connections", (it) => {
  it.effect("of a whole pool delay the events of a watch, and lose none", () =>
    Effect.gen(function*() {
      const writer = yield* behindProxy()
      const { kv, proxy } = yield* behindProxy({ connections: 4, background: true })
      const watcher = yield* backendOf(kv).watch({ range: KeyRange.key("watched") })
      const write = Effect.fnUntraced(function*(value: string) {
        const { revision } = yield* writer.kv.put("watched", value)
        const taken = yield* Effect.timeoutOption(watcher.take, "40 seconds")
        assert.deepStrictEqual(
          Option.map(taken, (revisions) => revisions.map((each) => each.revision)),
          Option.some([revision])
        )
      })
      yield* Effect.gen(function*() {
        yield* write("1")
        yield* proxy.halfOpen
        yield* proxy.swallow(true)
        const interrupted = Stream.takeUntil(watcher.status, ({ _tag }) => _tag === "Interrupted")
        yield* Effect.timeout(Stream.runDrain(interrupted), "40 seconds")
        yield* proxy.swallow(false)
        yield* write("2")
        yield* write("3")
        // The driver waits for the response to its last statement on the connection of the listener.
      }).pipe(Effect.ensuring(Effect.ignore(proxy.heal)))
    }), 120_000)

  it.effect("are given up after the deadline of a call, even the only one of a pool", () =>
    Effect.gen(function*() {
      const { kv, proxy } = yield* behindProxy({ deadline: "1 second" })
      yield* proxy.halfOpen
      const error = yield* Effect.flip(kv.put("silent", "1"))
      assert.strictEqual(error.reason._tag, "Indeterminate")
      assert.include(error.message, "no response arrived")
      const next = yield* Effect.flip(kv.put("next", "1"))
      assert.deepStrictEqual([next.reason._tag, next.outcome], ["DeadlineExceeded", "NotApplied"])
      assert.include(next.message, "earlier statements of this client had no response")
      yield* Deadline.within(kv.put("next", "1"), "20 seconds")
    }), 60_000)

  it.effect("delay the check of the schema, and do not end it", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const proxy = yield* TcpProxy.make({ target: port })
      const pg = yield* pool(proxy.port)
      yield* pg`select 1`
      yield* proxy.halfOpen
      const kv = Context.get(yield* Effect.provideService(connect(), PgClient.PgClient, pg), Kv.Kv)
      const error = yield* Effect.flip(Deadline.within(kv.get("a"), "1 second"))
      assert.strictEqual(error.reason._tag, "DeadlineExceeded")
      assert.include(error.message, "Postgres did not respond to the check of the schema")
      yield* Deadline.within(kv.get("a"), "20 seconds")
    }), 60_000)

  it.effect("are probed by TCP if the client was made from a URL", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const context = yield* Layer.build(PostgresLayer.fromUrl(url))
      const sql = Context.get(context, PgClient.PgClient)
      const [client] = yield* sql<{ readonly port: number }>`select inet_client_port() as port`
      const local = `0100007F:${client!.port.toString(16).toUpperCase().padStart(4, "0")}`
      // The kernel's table: local and remote address, state, queues, timer. Timer 1 waits for an acknowledgement.
      const timer = Effect.sync(() =>
        readFileSync("/proc/net/tcp", "utf8").split("\n")
          .map((line) => line.trim().split(/\s+/))
          .find(([, address]) => address === local)?.[5]
      )
      yield* until("a timer of keep-alive (2)", timer, (found) => found?.startsWith("02:") === true)
    }))

  it.effect("delay the background work of a client by a minute at most, however long the deadline of its calls is", () =>
    Effect.gen(function*() {
      for (const [deadline, expected] of [["1 hour", "1 minute"], ["2 seconds", "2 seconds"]] as const) {
        const to = yield* connection.make(yield* administrator, yield* options.check({ deadline }))
        const used: Array<Duration.Duration | undefined> = []
        const silent = Effect.withFiber((fiber) => {
          used.push(fiber.getRef(Deadline.Deadline))
          return Effect.never
        })
        yield* backend.make(Object.assign(to, { read: () => silent }), undefined)
        yield* untilTrue("a statement of the sweeper", Effect.sync(() => used.length > 0))
        assert.deepStrictEqual(used, [Duration.fromInputUnsafe(expected)])
      }
    }))
})
