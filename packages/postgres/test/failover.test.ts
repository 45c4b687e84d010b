/**
 * A primary and its streaming replica: reads that may lag, and a real failover, with and without the last writes of the old
 * primary.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import type * as Watch from "@effect-kv/core/Watch"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { connectTo, Pair, pairLayer, pool } from "./support/replication.ts"
import { connect } from "./support/store.ts"
import { until } from "./support/until.ts"

const kvOn = (...options: Parameters<typeof connectTo>) => Effect.map(connectTo(...options), Context.get(Kv.Kv))

const valueOf = (kv: Kv.Kv, options?: Kv.ReadOptions) => Effect.map(kv.get("a", options), Option.getOrUndefined)

/** Takes the keys of the next events of a watch. */
const take = Effect.fnUntraced(function*(watcher: Watch.Watcher, n: number) {
  const keys: Array<string> = []
  while (keys.length < n) {
    for (const { events } of yield* watcher.take) keys.push(...events.map(({ key }) => key))
  }
  return keys
})

/** Holds a lock until `release`, and then writes under it. */
const hold = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const held = yield* Deferred.make<void>()
  const release = yield* Deferred.make<void>()
  const fiber = yield* Effect.gen(function*() {
    yield* Deferred.succeed(held, undefined)
    yield* Deferred.await(release)
    yield* Deadline.within(kv.put(`${name}-result`, "1"), "20 seconds")
  }).pipe(DistLock.withDistLock(name), Effect.provideService(Kv.Kv, kv), Effect.forkChild)
  yield* Deferred.await(held)
  return { fiber, release: Deferred.succeed(release, undefined) }
})

/** A call whose deadline passes while its first attempt is in flight, or a write that of a later one. */
const isWithoutResponse = ({ _tag }: KvError.Reason) => _tag === "DeadlineExceeded" || _tag === "Indeterminate"

const options = { excludeTestServices: true, timeout: "1 minute" } as const

layer(pairLayer, options)("a replica with all writes", (it) => {
  it.effect("answers serializable reads, also when it lags; what it cannot answer, the primary does", () =>
    Effect.gen(function*() {
      const { caughtUp, onStandby, primary, standby } = yield* Pair
      const kv = yield* kvOn(primary.port, { replica: PgClient.layer({ url: Redacted.make(standby.url) }) })
      const first = yield* kv.put("a", "1")
      yield* caughtUp
      yield* onStandby`select pg_wal_replay_pause()`
      const second = yield* kv.put("a", "2")
      const range = yield* kv.range(KeyRange.key("a"), { serializable: true })
      assert.deepStrictEqual([range.entries[0]?.lossyText, range.revision], ["1", first.revision])
      assert.strictEqual(yield* valueOf(kv, { serializable: true }), "1")
      assert.strictEqual(yield* valueOf(kv), "2")
      const past = { serializable: true, revision: second.revision }
      assert.strictEqual(yield* valueOf(kv, past), "2", "the replica does not have this revision yet")
      yield* standby.pause
      assert.strictEqual(yield* Deadline.within(valueOf(kv, { serializable: true }), "3 seconds"), "2")
      yield* standby.resume
      yield* onStandby`select pg_wal_replay_resume()`
    }))

  it.effect("rejects other calls, which wait until the address leads to the primary", () =>
    Effect.gen(function*() {
      const { address, caughtUp, primary, standby } = yield* Pair
      yield* caughtUp
      yield* address.retarget(standby.port)
      const kv = yield* kvOn(address.port)
      const reads = [kv.get("a"), kv.range(KeyRange.all), backendOf(kv).leaseTimeToLive(1n, { keys: true })]
      const rejection = <A>(call: Effect.Effect<A, KvError.KvError>) =>
        until("a rejection", Effect.flip(Deadline.within(call, "1 second")), ({ reason }) => !isWithoutResponse(reason))
      for (
        const error of yield* Effect.all([
          ...reads.map((call) => rejection<unknown>(call)),
          rejection(kv.put("a", "3"))
        ], {
          concurrency: "unbounded"
        })
      ) {
        assert.strictEqual(error.reason._tag, "Unavailable")
        assert.include(error.message, "standby")
      }
      const single = yield* kvOn(address.port, {}, { maxConnections: 1 })
      yield* Effect.flip(Deadline.within(single.get("a"), "1 second"))
      const waiting = Deadline.within(
        Effect.all([single.get("a"), single.put("b", "1")], { concurrency: 2 }),
        "20 seconds"
      )
      const fiber = yield* Effect.forkChild(waiting)
      // The proxy keeps the connection to the standby: the client must leave it.
      yield* address.retarget(primary.port)
      yield* Fiber.join(fiber)
    }))

  it.effect("takes over: calls wait for it, locks are kept, and watches resume without a gap", () =>
    Effect.gen(function*() {
      const { address, caughtUp, onStandby, primary, standby } = yield* Pair
      const kv = yield* kvOn(address.port)
      const watcher = yield* backendOf(kv).watch({ range: KeyRange.prefix("k/") })
      const lock = yield* hold(kv, "lock")
      yield* kv.put("k/1", "1")
      yield* caughtUp
      yield* address.retarget(standby.port)
      yield* primary.kill
      const put = yield* Effect.forkChild(Deadline.within(kv.put("k/2", "1"), "20 seconds"))
      yield* onStandby`select pg_promote()`
      yield* Fiber.join(put)
      yield* kv.put("k/3", "1")
      assert.deepStrictEqual(yield* take(watcher, 3), ["k/1", "k/2", "k/3"])
      yield* lock.release
      yield* Fiber.join(lock.fiber)
    }))

  it.effect("is not believed once it belongs to another history than the primary", () =>
    Effect.gen(function*() {
      const { primary, standby } = yield* Pair
      // The old primary returns, and does not know that it is none any more.
      yield* primary.start
      const kv = yield* kvOn(standby.port, { replica: PgClient.layer({ url: Redacted.make(primary.url) }) })
      yield* kv.put("a", "1")
      yield* (yield* kvOn(primary.port)).put("a", "stray")
      assert.strictEqual(yield* valueOf(kv, { serializable: true }), "1")
    }))
})

layer(pairLayer, options)("a replica that lacks writes", (it) => {
  it.effect("takes over, and passes the revision that a client has seen: the client notices it", () =>
    Effect.gen(function*() {
      const { address, caughtUp, link, onStandby, primary, standby } = yield* Pair
      const kv = yield* kvOn(address.port)
      yield* kv.put("kept", "1")
      yield* caughtUp
      yield* link.down
      const watcher = yield* backendOf(kv).watch({ range: KeyRange.prefix("none/") })
      const lock = yield* hold(kv, "lock")
      const { revision } = yield* kv.put("lost", "1")
      yield* address.down
      yield* primary.kill
      yield* onStandby`select pg_promote()`
      const other = yield* kvOn(standby.port)
      for (let i = 0; i < 10; i++) yield* other.put("passing", `${i}`)
      assert.isTrue((yield* other.put("passed", "1")).revision > revision)
      yield* address.retarget(standby.port)
      yield* address.up
      assert.strictEqual((yield* Effect.flip(watcher.take)).reason._tag, "StoreReplaced")
      yield* lock.release
      assert.strictEqual((yield* Effect.flip(Fiber.join(lock.fiber)))._tag, "LockLost")
      assert.deepStrictEqual(yield* kv.get("lost"), Option.none())
      assert.deepStrictEqual(yield* kv.get("kept"), Option.some("1"))
    }))
})

layer(pairLayer, options)("a replica that lacks a lock, and has given its revision to another client's", (it) => {
  it.effect("takes over: the fence rejects the SQL transaction of the holder that was lost, whose condition holds by chance", () =>
    Effect.gen(function*() {
      const { address, caughtUp, link, onStandby, primary, standby } = yield* Pair
      const sql = yield* pool(address.port)
      const context = yield* Effect.provideService(connect(), PgClient.PgClient, sql)
      const kv = Context.get(context, Kv.Kv)
      yield* sql`create table invoice (name text not null)`
      yield* kv.put("kept", "1")
      yield* caughtUp
      yield* link.down
      // A lock without a watch, which would notice the loss, perhaps before the transaction.
      const acquire = (kv: Kv.Kv, name: string) => Effect.map(kv.put("place", name), ({ revision }) => revision)
      const mine = yield* acquire(kv, "lost")
      const fence = Fence.make(kv, {
        conditions: [Compare.createRevision("place", "=", mine)],
        rejected: KvError.fail(new KvError.InvalidRequest({ message: "the place is lost" }))
      })
      const bill = (name: string) =>
        sql.withTransaction(Effect.andThen(
          Effect.provide(Fence.provide(PostgresStore.fence, fence), context),
          sql`insert into invoice (name) values (${name})`
        ))
      yield* address.down
      yield* primary.kill
      yield* onStandby`select pg_promote()`
      const other = yield* kvOn(standby.port)
      assert.strictEqual(yield* Deadline.within(acquire(other, "next"), "20 seconds"), mine)
      yield* address.retarget(standby.port)
      yield* address.up
      // Its old connections are broken.
      yield* until("a connection that works", Effect.result(sql`select 1`), Result.isSuccess)
      assert.include((yield* Effect.flip(bill("lost"))).message, "the place is lost")
      assert.deepStrictEqual(yield* onStandby`select name from invoice`, [])
      // The condition itself holds.
      assert.strictEqual(Option.getOrThrow(yield* other.getEntry("place")).createRevision, mine)
    }))
})
