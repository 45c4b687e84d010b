/**
 * The store behind a real PgBouncer, with fewer connections to the server than clients use.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import { PgBouncer, PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Array from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { untilTrue } from "./support/until.ts"

/** Clients on pools of their own behind one PgBouncer, and what they log. */
const behind = Effect.fnUntraced(function*(mode: "session" | "transaction", options: { readonly prepare: boolean }) {
  const server = yield* PostgresServer.PostgresServer
  const connections = mode === "session" ? "30" : "3"
  const { url } = yield* PgBouncer.make({ target: server.port, mode, settings: { default_pool_size: connections } })
  const logged: Array<string> = []
  const logger = Logger.make<unknown, void>(({ message }) => void logged.push(String(message)))
  const database = PgClient.layer({ url: Redacted.make(url), maxConnections: 5, ...options })
  const client = Layer.build(Layer.fresh(Layer.provideMerge(PostgresLayer.layer({ schema: mode }), database))).pipe(
    Effect.provide(Logger.layer([logger]))
  )
  return { client, logged }
})

/** What every program relies on: no event is lost, a lock has one holder, and a transaction is fenced. */
const works = Effect.fnUntraced(function*(
  client: Effect.Success<ReturnType<typeof behind>>["client"],
  name: string
) {
  const first = yield* client
  const second = yield* client
  const kv = Context.get(first, Kv.Kv)
  const watcher = yield* backendOf(Context.get(second, Kv.Kv)).watch({ range: KeyRange.prefix(`${name}/k/`) })
  const keys = Array.range(1, 40).map((i) => `${name}/k/${i}`)
  yield* Effect.forEach(keys, (key) => kv.put(key, "1"), { concurrency: 8 })
  const seen: Array<string> = []
  while (seen.length < keys.length) {
    for (const { events } of yield* watcher.take) seen.push(...events.map(({ key }) => key))
  }
  assert.sameMembers(seen, keys)
  let holders = 0
  const work = (context: typeof first) =>
    Effect.gen(function*() {
      assert.strictEqual(++holders, 1)
      const sql = yield* PgClient.PgClient
      const rows = yield* sql.withTransaction(Effect.andThen(PostgresStore.fence, sql`select 1 as one`))
      assert.deepStrictEqual(rows, [{ one: 1 }])
      assert.strictEqual(holders--, 1)
    }).pipe(DistLock.withDistLock(`${name}/lock`), Effect.provide(context))
  yield* Effect.forEach([first, second, first, second], work, { concurrency: 4, discard: true })
})

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("behind PgBouncer", (it) => {
  it.effect("in session mode everything works, notifications too", () =>
    Effect.gen(function*() {
      const { client, logged } = yield* behind("session", { prepare: true })
      yield* works(client, "session")
      assert.deepStrictEqual(logged, [])
    }))

  it.effect("in transaction mode nothing is lost without notifications, and a warning says so", () =>
    Effect.gen(function*() {
      const { client, logged } = yield* behind("transaction", { prepare: false })
      const kv = Context.get(yield* client, Kv.Kv)
      const change = yield* Effect.forkChild(kv.waitForChange("changed"))
      yield* works(client, "transaction")
      yield* untilTrue(
        "the warning",
        Effect.sync(() => logged.some((text) => text.includes("a pooler in transaction mode")))
      )
      yield* kv.put("changed", "1")
      yield* Fiber.join(change)
    }))

  it.effect("in transaction mode a prepared statement that is on another connection is prepared again", () =>
    Effect.gen(function*() {
      const { client } = yield* behind("transaction", { prepare: true })
      const clients = yield* Effect.all([client, client, client])
      yield* Effect.forEach(Array.range(1, 60), (i) => {
        const kv = Context.get(clients[i % 3]!, Kv.Kv)
        return Effect.andThen(kv.put(`prepared/${i}`, "1"), kv.get(`prepared/${i}`))
      }, { concurrency: 12, discard: true })
      const { count, entries } = yield* Context.get(clients[0], Kv.Kv).range(KeyRange.prefix("prepared/"))
      assert.strictEqual(count, 60)
      assert.isTrue(entries.every((entry) => entry.version === 1))
    }))
})
