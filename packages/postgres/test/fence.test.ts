/**
 * The fence in the application's own SQL transaction, on a real server.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { connect, database } from "./support/store.ts"

/** A process of its own: its `Kv` and its store, on the same database. */
const newProcess = connect()

const invoice = (name: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql`insert into invoice (name) values (${name})`)

const invoices = Effect.map(
  Effect.flatMap(PgClient.PgClient, (sql) => sql<{ readonly name: string }>`select name from invoice order by name`),
  (rows) => rows.map((row) => row.name)
)

const table = Effect.flatMap(
  PgClient.PgClient,
  (sql) => Effect.andThen(sql`drop table if exists invoice`, sql`create table invoice (name text not null)`)
)

/** Bills under a lock that is taken over while the holder does not run, and returns how the transaction ended. */
const billAfterTakeover = Effect.fnUntraced(
  function*(fence: Effect.Effect<void, KvError.KvError, PostgresStore.PostgresStore>) {
    yield* table
    const sql = yield* PgClient.PgClient
    const [stale, next] = [yield* newProcess, yield* newProcess]
    const ended = yield* Deferred.make<Option.Option<unknown>>()
    const takeover = Effect.gen(function*() {
      const kv = Context.get(next, Kv.Kv)
      const { entries } = yield* kv.range(lockKeys)
      yield* backendOf(kv).leaseRevoke(Option.getOrThrow(entries[0]!.lease))
      yield* sql.withTransaction(Effect.andThen(PostgresStore.fence, invoice("next"))).pipe(
        DistLock.withDistLock("billing"),
        Effect.provide(next)
      )
    })
    const bill = Effect.andThen(
      takeover,
      Effect.exit(sql.withTransaction(Effect.andThen(fence, invoice("stale"))))
    )
    // Uninterruptible, as a process that was stopped is: it does not notice the loss before it continues.
    const body = Effect.uninterruptible(
      Effect.flatMap(
        bill,
        (exit) => Deferred.succeed(ended, exit._tag === "Success" ? Option.none() : Option.some(exit.cause.reasons[0]))
      )
    )
    const holder = yield* Effect.forkChild(
      Effect.exit(body.pipe(DistLock.withDistLock("billing"), Effect.provide(stale)))
    )
    const result = yield* Deferred.await(ended)
    yield* Fiber.join(holder)
    return result
  }
)

const lockKeys = KeyRange.prefix("billing/")

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "the fence of a SQL transaction",
  (it) => {
    it.effect("the rows of a holder whose lock was taken over are rejected with its transaction", () =>
      Effect.gen(function*() {
        const failure = yield* billAfterTakeover(PostgresStore.fence)
        const error = Option.getOrThrow(failure)
        assert.include(JSON.stringify(error), "LockLost")
        assert.deepStrictEqual(yield* invoices, ["next"])
      }))

    it.effect("without the fence they are accepted: the bug that it prevents", () =>
      Effect.gen(function*() {
        assert.isTrue(Option.isNone(yield* billAfterTakeover(Effect.void)))
        assert.deepStrictEqual(yield* invoices, ["next", "stale"])
      }))

    it.effect("a holder's transaction with the fence commits, and its lock cannot end before that", () =>
      Effect.gen(function*() {
        yield* table
        const sql = yield* PgClient.PgClient
        const [mine, other] = [yield* newProcess, yield* newProcess]
        const kv = Context.get(other, Kv.Kv)
        yield* Effect.gen(function*() {
          const entry = Option.getOrThrow(Option.fromUndefinedOr((yield* kv.range(lockKeys)).entries[0]))
          yield* sql.withTransaction(Effect.gen(function*() {
            yield* PostgresStore.fence
            yield* invoice("mine")
            // The deletion is rejected at once, without holding up the store's other writers.
            const error = yield* Effect.flip(Deadline.within(kv.delete(entry.key), "500 millis"))
            assert.include(String(error), "Unavailable")
            yield* kv.put("another", "write")
          }))
          yield* kv.get(entry.key)
        }).pipe(DistLock.withDistLock("billing"), Effect.provide(mine))
        assert.deepStrictEqual(yield* invoices, ["mine"])
      }))

    it.effect("a lock acquired within the transaction is released before the commit, or after the fence not until then", () =>
      Effect.gen(function*() {
        yield* table
        const sql = yield* PgClient.PgClient
        const [mine, other] = [yield* newProcess, yield* newProcess]
        const isFree = Effect.option(
          Effect.void.pipe(DistLock.withDistLock("billing", { acquireTimeout: "300 millis" }), Effect.provide(other))
        )
        const billed = (body: Effect.Effect<void, KvError.KvError, PostgresStore.PostgresStore>) =>
          sql.withTransaction(Effect.gen(function*() {
            yield* invoice("mine")
            yield* body.pipe(DistLock.withDistLock("billing"), Effect.provide(mine))
            const free = yield* isFree
            yield* invoice("mine")
            return Option.isSome(free)
          }))
        assert.isTrue(yield* billed(Effect.void))
        assert.isFalse(yield* billed(PostgresStore.fence))
        yield* Effect.void.pipe(DistLock.withDistLock("billing"), Effect.provide(other))
      }))

    it.effect("under repeatable read, a lock acquired after the transaction's first statement fails the fence as lost", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const mine = yield* newProcess
        const within = sql.withTransaction(Effect.gen(function*() {
          yield* sql`set transaction isolation level repeatable read`
          yield* sql`select 1`
          yield* PostgresStore.fence.pipe(DistLock.withDistLock("billing"), Effect.provide(mine))
        }))
        assert.include(String(yield* Effect.flip(within)), "LockLost")
      }))

    it.effect("the fence of a nested transaction holds until the outer one ends, unless the nested one rolls back", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const [mine, other] = [yield* newProcess, yield* newProcess]
        const kv = Context.get(other, Kv.Kv)
        const steal = Effect.gen(function*() {
          const { entries } = yield* kv.range(lockKeys)
          return yield* Deadline.within(kv.delete(entries[0]!.key), "300 millis")
        })
        const nested = sql.withTransaction(PostgresStore.fence)
        const rolledBack = Effect.flip(sql.withTransaction(Effect.andThen(PostgresStore.fence, Effect.fail("no"))))
        const locked = <A, E>(body: Effect.Effect<A, E, PostgresStore.PostgresStore>) =>
          Effect.uninterruptible(sql.withTransaction(body)).pipe(DistLock.withDistLock("billing"), Effect.provide(mine))
        const held = yield* locked(Effect.andThen(nested, Effect.andThen(rolledBack, Effect.flip(steal))))
        assert.strictEqual(held.reason._tag, "Unavailable")
        const error = yield* Effect.flip(locked(Effect.andThen(rolledBack, steal)))
        assert.strictEqual(error._tag, "LockLost")
      }))

    it.effect("the fence is rejected outside of a transaction, and without a lock", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const context = yield* newProcess
        const outside = yield* Effect.flip(PostgresStore.fence.pipe(
          DistLock.withDistLock("billing"),
          Effect.provide(context)
        ))
        assert.include(outside.message, "withTransaction")
        const fenced = sql.withTransaction(PostgresStore.fence)
        const unlocked = yield* Effect.flip(Effect.provide(fenced, context))
        assert.include(unlocked.message, "DistLock.fenced(lock)")
        yield* Effect.gen(function*() {
          const lock = yield* DistLock.acquire("billing")
          assert.include((yield* Effect.flip(fenced)).message, "DistLock.fenced(lock)")
          yield* DistLock.fenced(lock)(fenced)
        }).pipe(Effect.scoped, Effect.provide(context))
      }))
  }
)
