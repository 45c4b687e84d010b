/**
 * Small pools of the application: how many connections the store uses, and what happens if there are too few.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { administrator, untilRows } from "./support/backends.ts"
import { connect } from "./support/store.ts"

/** An application with a pool of that size, and the store on it. */
const application = Effect.fnUntraced(function*(maxConnections: number) {
  const { url } = yield* PostgresServer.PostgresServer
  const database = yield* Layer.build(
    Layer.fresh(PgClient.layer({ url: Redacted.make(url), maxConnections }))
  )
  const store = yield* Effect.provideContext(connect(), database)
  return Context.merge(database, store)
})

/** Each client acquires the lock a few times. None of them is alone. */
const contend = (clients: ReadonlyArray<Context.Context<Kv.Kv>>) =>
  Effect.gen(function*() {
    let held = 0
    const body = Effect.gen(function*() {
      assert.strictEqual(++held, 1)
      yield* Effect.sleep("5 millis")
      held--
    })
    yield* Effect.forEach(
      clients,
      (client) =>
        Effect.forEach([1, 2, 3], () => Effect.provideContext(DistLock.withDistLock(body, "contended"), client), {
          discard: true
        }),
      { concurrency: "unbounded", discard: true }
    )
  })

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("small pools", (it) => {
  it.effect("clients with one connection each wait for locks, and the layer warns that they poll", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => {
        logged.push(String(message))
      })
      const clients = yield* Effect.forEach([1, 2], () => Effect.provide(application(1), Logger.layer([logger])))
      yield* contend(clients)
      assert.strictEqual(logged.filter((text) => text.includes("maxConnections: 1")).length, 2)
    }))

  it.effect("a call in a transaction that holds the only connection fails at its deadline and says why", () =>
    Effect.gen(function*() {
      const client = yield* application(1)
      const sql = Context.get(client, PgClient.PgClient)
      const kv = Context.get(client, Kv.Kv)
      yield* kv.put("before", "1")
      yield* sql`create table bill (id int)`
      const error = yield* sql.withTransaction(
        Effect.andThen(
          sql`insert into bill values (1)`,
          Effect.flip(Deadline.within(kv.put("inside", "1"), "300 millis"))
        )
      )
      assert.strictEqual(error.reason._tag, "DeadlineExceeded")
      assert.include(error.message, "its pool may be in use")
      assert.deepStrictEqual(yield* sql`select id from bill`, [{ id: 1 }])
      assert.deepStrictEqual(yield* kv.get("inside"), Option.none())
    }))

  it.effect("a lock that cannot be acquired or renewed, because other work uses the pool, names the pool", () =>
    Effect.gen(function*() {
      const client = yield* application(2)
      const sql = Context.get(client, PgClient.PgClient)
      const withLock = <A, E>(
        body: Effect.Effect<A, E>,
        options?: { readonly ttl?: "3 seconds"; readonly acquireTimeout?: "300 millis" }
      ) => Effect.flip(Effect.provideContext(DistLock.withDistLock(body, "starved", options), client))
      const occupied = Effect.all([sql.reserve, sql.reserve])
      const lost = yield* withLock(Effect.scoped(Effect.andThen(occupied, Effect.never)), { ttl: "3 seconds" })
      assert.include(
        lost.message,
        "its lease could not be renewed in time: no connection of the PgClient was available (its pool may be in use"
      )
      const timeout = yield* Effect.scoped(
        Effect.andThen(occupied, withLock(Effect.void, { acquireTimeout: "300 millis" }))
      )
      assert.include(timeout.message, "no connection of the PgClient was available (its pool may be in use")
    }))

  it.effect("two connections are enough for a fenced transaction under a lock", () =>
    Effect.gen(function*() {
      const client = yield* application(2)
      const sql = Context.get(client, PgClient.PgClient)
      const fenced = sql.withTransaction(Effect.andThen(PostgresStore.fence, sql`select 1 as one`))
      assert.deepStrictEqual(
        yield* Effect.provideContext(DistLock.withDistLock(fenced, "fenced"), client),
        [{ one: 1 }]
      )
    }))

  it.effect("three connections are enough to wait for a lock while a transaction is open", () =>
    Effect.gen(function*() {
      const client = yield* application(3)
      const other = yield* application(3)
      const sql = Context.get(client, PgClient.PgClient)
      const open = yield* Deferred.make<void>()
      const end = yield* Deferred.make<void>()
      const transaction = yield* Effect.forkChild(sql.withTransaction(
        Effect.andThen(sql`select 1`, Effect.andThen(Deferred.succeed(open, undefined), Deferred.await(end)))
      ))
      yield* Deferred.await(open)
      yield* contend([client, other])
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(transaction)
    }))

  it.effect("a pool that closes before the layer closes the client: calls, locks and watches fail with Closed", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const scope = yield* Scope.make()
      const database = yield* Scope.provide(
        Layer.build(Layer.fresh(PgClient.layer({ url: Redacted.make(url) }))),
        scope
      )
      const client = yield* Effect.provideContext(connect(), database)
      const kv = Context.get(client, Kv.Kv)
      yield* kv.put("open", "1")
      const watch = yield* Effect.forkChild(Effect.flip(Stream.runDrain(kv.watch(KeyRange.all))))
      yield* Scope.close(scope, Exit.void)
      const lock = DistLock.withDistLock(Effect.void, "of a closed pool")
      const errors = [
        yield* Effect.flip(kv.get("open")),
        yield* Effect.flip(kv.put("open", "2")),
        yield* Effect.flip(Effect.provideContext(lock, client)),
        yield* Fiber.join(watch)
      ]
      for (const error of errors) assert.include(`${error}`, "Closed")
    }))

  it.effect("a pool closes although the connection of the listener is dead without a sign", () =>
    Effect.gen(function*() {
      const sql = yield* administrator
      const { port } = yield* PostgresServer.PostgresServer
      const proxy = yield* TcpProxy.make({ target: port })
      const scope = yield* Scope.make()
      const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres?application_name=cut`
      const client = yield* Scope.provide(Layer.build(Layer.fresh(PostgresLayer.fromUrl(url))), scope)
      const kv = Context.get(client, Kv.Kv)
      yield* Effect.forkChild(Stream.runDrain(kv.watch(KeyRange.all)))
      yield* untilRows(
        sql,
        "an idle client that listens",
        sql`
        select from pg_stat_activity where application_name = 'cut' having bool_or(query like 'LISTEN%')
          and bool_or(query like '%changes(%') and bool_and(state = 'idle')`
      )
      yield* proxy.blackhole()
      // The driver waits 5 s for a statement that was given up.
      assert.isTrue(Option.isSome(yield* Effect.timeoutOption(Scope.close(scope, Exit.void), "15 seconds")))
    }))

  it.effect("a pool has all its connections after listeners on it have ended", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const database = yield* Layer.build(Layer.fresh(PgClient.layer({ url: Redacted.make(url), maxConnections: 2 })))
      const sql = Context.get(database, PgClient.PgClient)
      for (let i = 0; i < 5; i++) {
        yield* Effect.scoped(Effect.gen(function*() {
          const kv = Context.get(yield* Effect.provideContext(connect(), database), Kv.Kv)
          const { revision } = yield* kv.put("heard", `${i}`)
          yield* Stream.runHead(kv.watch(KeyRange.all, { startRevision: revision }))
        }))
      }
      const both = Effect.scoped(Effect.all([sql.reserve, sql.reserve]))
      assert.isTrue(Option.isSome(yield* Effect.timeoutOption(both, "5 seconds")))
    }))
})
