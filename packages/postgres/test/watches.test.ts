/**
 * Watches on a real server, when notifications are wrong, the listener's connection breaks, or the server crashes.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import type { Event, Watcher } from "@effect-kv/core/Watch"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { connect, database } from "./support/store.ts"
import { until } from "./support/until.ts"

const client = Effect.map(connect(), Context.get(Kv.Kv))

const watch = (kv: Kv.Kv, prefix: string) => backendOf(kv).watch({ range: KeyRange.prefix(prefix) })

/** Takes until there are so many events. */
const take = Effect.fnUntraced(function*(watcher: Watcher, count: number) {
  const events: Array<Event> = []
  while (events.length < count) {
    for (const revision of yield* watcher.take) events.push(...revision.events)
  }
  return events.map(({ _tag, key }) => `${_tag} ${key}`)
}, Effect.timeout("20 seconds"))

/** The time of the server. */
const now = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<{ readonly now: string }>`select clock_timestamp()::text as now`
  return rows[0]!.now
})

/** Waits until the client's listener is there, and returns its process. That of a client before may still be there, too. */
const listenerSince = Effect.fnUntraced(function*(began: string) {
  const sql = yield* PgClient.PgClient
  const listeners = sql<{ readonly pid: number }>`
    select pid from pg_stat_activity
    where query ilike 'listen%effect_kv%' and pid <> pg_backend_pid() and query_start >= ${began}::timestamptz`
  const [listener] = yield* until("a listener", listeners, (rows) => rows.length > 0)
  return listener!.pid
})

layer(database.pipe(Layer.provideMerge(PostgresServer.layer())), { excludeTestServices: true, timeout: "1 minute" })(
  "watches on Postgres",
  (it) => {
    it.effect("a forged notification does not lose an event", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const began = yield* now
        const kv = yield* client
        const watcher = yield* watch(kv, "made-up/")
        yield* listenerSince(began)
        yield* kv.put("made-up/1", "v")
        assert.deepStrictEqual(yield* take(watcher, 1), ["Put made-up/1"])
        yield* sql`select pg_notify('effect_kv', (revision + 1) || ' 7a') from effect_kv.store`
        yield* kv.put("made-up/2", "v")
        assert.deepStrictEqual(yield* take(watcher, 1), ["Put made-up/2"])
      }))

    it.effect("the deletion of a key that is too long for a notification is not delayed by one that fits", () =>
      Effect.gen(function*() {
        const began = yield* now
        const kv = yield* client
        const long = `long/${"x".repeat(3500)}`
        yield* kv.put(long, "v")
        yield* kv.put("long/a", "v")
        const watcher = yield* backendOf(kv).watch({ range: KeyRange.key(long) })
        yield* listenerSince(began)
        yield* kv.put(long, "v")
        yield* take(watcher, 1)
        yield* kv.deleteRange(KeyRange.prefix("long/"))
        // Without a notification the feed reads after five seconds.
        assert.deepStrictEqual(yield* Effect.timeout(take(watcher, 1), "3 seconds"), [`Delete ${long}`])
      }))

    it.effect("a watch continues when the connection of its listener is ended, and its status says so", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const began = yield* now
        const kv = yield* client
        const watcher = yield* watch(kv, "ended/")
        const statuses = yield* Effect.forkChild(
          watcher.status.pipe(Stream.map(({ _tag }) => _tag), Stream.take(3), Stream.runCollect)
        )
        yield* kv.put("ended/1", "v")
        assert.deepStrictEqual(yield* take(watcher, 1), ["Put ended/1"])
        yield* sql`select pg_terminate_backend(${yield* listenerSince(began)})`
        yield* kv.put("ended/2", "v")
        yield* kv.delete("ended/1")
        assert.deepStrictEqual(yield* take(watcher, 2), ["Put ended/2", "Delete ended/1"])
        assert.deepStrictEqual([...yield* Fiber.join(statuses)], ["Live", "Interrupted", "Live"])
      }))

    it.effect("a watch delivers every event once across kill -9 of the server", () =>
      Effect.gen(function*() {
        const server = yield* PostgresServer.PostgresServer
        const kv = yield* client
        const watcher = yield* watch(kv, "crash/")
        yield* kv.put("crash/1", "v")
        yield* server.restart
        yield* kv.put("crash/2", "v")
        assert.deepStrictEqual(yield* take(watcher, 2), ["Put crash/1", "Put crash/2"])
      }))

    it.effect("watches that are opened at the next revision while others write lose and repeat no event", () =>
      Effect.gen(function*() {
        const [kv, other] = [yield* client, yield* client]
        const noise = yield* Effect.forkChild(Effect.forever(other.put("noise", "v")))
        const follow = Effect.fnUntraced(function*(key: string) {
          for (let i = 0; i < 20; i++) {
            const { revision } = yield* kv.put(key, "own")
            const watcher = yield* backendOf(kv).watch({ range: KeyRange.key(key), startRevision: revision + 1n })
            const [deleted, put] = [yield* other.delete(key), yield* other.put(key, "other")]
            const seen: Array<bigint> = []
            while (seen.length < 2) {
              for (const next of yield* Effect.timeout(watcher.take, "4 seconds")) seen.push(next.revision)
            }
            assert.deepStrictEqual(seen, [deleted.revision, put.revision])
          }
        }, Effect.scoped)
        yield* Effect.forEach(["next/1", "next/2", "next/3", "next/4"], follow, { concurrency: "unbounded" })
        yield* Fiber.interrupt(noise)
      }))

    it.effect("a watch that is not read buffers no more than its bound, and delivers everything once it is read", () =>
      Effect.gen(function*() {
        const kv = yield* client
        const watcher = yield* watch(kv, "many/")
        const keys = Array.from({ length: 3000 }, (_, i) => `many/${`${i}`.padStart(4, "0")}`)
        yield* Effect.forEach(keys, (key) => kv.put(key, "v"), { concurrency: 256, discard: true })
        const events = yield* take(watcher, keys.length)
        assert.deepStrictEqual(events.toSorted(), keys.map((key) => `Put ${key}`))
      }))
  }
)
