/**
 * The connections that calls reserve in the application's pool: how many, for how long, and that they release them.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { administrator, holding, untilBlocked } from "./support/backends.ts"
import { withoutBackground } from "./support/background.ts"
import { connect } from "./support/store.ts"
import { until, untilTrue } from "./support/until.ts"

/** A client with a pool of that size, which counts how many connections are reserved, and were. */
const client = Effect.fnUntraced(function*(
  maxConnections: number,
  batching: PostgresLayer.Options["batching"] = false
) {
  const { url } = yield* PostgresServer.PostgresServer
  const sql = yield* PgClient.make({ url: Redacted.make(url), maxConnections }).pipe(Effect.provide(Reactivity.layer))
  const count = { now: 0, ever: 0 }
  const reserve = Effect.tap(sql.reserve, () => {
    count.now++
    count.ever++
    return Effect.addFinalizer(() => Effect.sync(() => count.now--))
  })
  const counted: PgClient.PgClient = Object.assign((...args: Parameters<PgClient.PgClient>) => sql(...args), sql, {
    reserve
  })
  const pg = withoutBackground(counted)
  const scope = yield* Scope.make()
  // Two hundred calls on one connection may take longer than usual on a busy machine.
  const context = yield* connect({ batching, deadline: "1 minute" }).pipe(
    Effect.provideService(PgClient.PgClient, pg),
    Scope.provide(scope)
  )
  const kv = Context.get(context, Kv.Kv)
  yield* kv.put("warm", "up")
  return { count, kv, scope, sql }
})

/** The caller resumes before the connection is released. */
const untilReleased = (count: { readonly now: number }) =>
  untilTrue("all connections to be released", Effect.sync(() => count.now === 0))

/** Repeats the calls until they have reserved fewer connections: on a busy machine each is held for too long to be taken over. */
const untilFewer = <E>(count: { readonly ever: number }, limit: number, calls: Effect.Effect<unknown, E>) =>
  until(
    `calls that reserve fewer than ${limit} connections`,
    Effect.suspend(() => {
      const before = count.ever
      return Effect.map(calls, () => count.ever - before)
    }),
    (reserved) => reserved < limit
  )

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("connections of the pool", (it) => {
  it.effect("are taken over by the next call, and released when there is none", () =>
    Effect.gen(function*() {
      const { count, kv } = yield* client(3)
      let most = 0
      const get = Effect.map(kv.get("warm"), () => {
        most = Math.max(most, count.now)
      })
      yield* untilFewer(count, 200, Effect.replicateEffect(get, 200, { discard: true }))
      // The last one may not be released yet.
      assert.isAtMost(most, 2)
      yield* untilReleased(count)
    }))

  it.effect("are taken over by the calls that wait for their turn", () =>
    Effect.gen(function*() {
      const { count, kv } = yield* client(1)
      yield* untilFewer(count, 150, Effect.replicateEffect(kv.get("warm"), 200, { concurrency: "unbounded" }))
      yield* untilReleased(count)
    }))

  it.effect("are released after failures and interruptions", () =>
    Effect.gen(function*() {
      const { count, kv } = yield* client(4)
      const admin = yield* administrator
      const release = yield* holding(admin, "select revision from effect_kv.store for update")
      const puts = yield* Effect.forEach(["a", "b"], (key) => Effect.forkChild(kv.put(key, "1")))
      yield* untilBlocked(admin, "write", 2)
      assert.strictEqual(count.now, 2)
      yield* admin`select pg_cancel_backend(pid) from pg_stat_activity where query like '%put_entries%' and wait_event_type = 'Lock'`
      yield* Fiber.interrupt(puts[0]!)
      yield* release
      yield* Fiber.join(puts[1]!)
      yield* untilReleased(count)
      assert.deepStrictEqual(yield* kv.get("b"), Option.some("1"))
    }))

  it.effect("are left to the application while calls follow each other without a pause", () =>
    Effect.gen(function*() {
      const { kv, sql } = yield* client(1)
      const calls = yield* Effect.forkChild(Effect.forever(kv.get("warm"), { disableYield: true }))
      const statements = Effect.forEach(Array.from({ length: 20 }), () => sql`select 1`, { discard: true })
      assert.isTrue(Option.isSome(yield* Effect.timeoutOption(statements, "10 seconds")))
      yield* Fiber.interrupt(calls)
    }))

  it.effect("are not taken by calls that are interrupted while they wait for their turn", () =>
    Effect.gen(function*() {
      const { kv } = yield* client(1)
      const admin = yield* administrator
      const release = yield* holding(admin, "select revision from effect_kv.store for update")
      const puts = yield* Effect.forEach(["sent", "waits"], (key) => Effect.forkChild(kv.put(key, "1")))
      yield* untilBlocked(admin, "write")
      yield* Fiber.interrupt(puts[1]!)
      yield* release
      yield* Fiber.join(puts[0]!)
      assert.deepStrictEqual(yield* kv.get("waits"), Option.none())
    }))

  it.effect("are not taken by calls that wait for their turn when the client closes", () =>
    Effect.gen(function*() {
      const { count, kv, scope, sql } = yield* client(2)
      yield* Effect.all([sql`select 1`, sql`select 1`], { concurrency: 2 })
      const admin = yield* administrator
      const release = yield* holding(admin, "select revision from effect_kv.store for update")
      const keys = Array.from({ length: 6 }, (_, i) => `closing/${i}`)
      const puts = yield* Effect.forEach(keys, (key) => Effect.forkChild(Effect.flip(kv.put(key, "1"))))
      yield* untilBlocked(admin, "write")
      const before = count.ever
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      const errors = yield* Effect.forEach(puts, (put) => Fiber.join(put))
      const [first, ...others] = errors.map(({ outcome }) => outcome)
      assert.strictEqual(first, "Unknown")
      assert.deepStrictEqual(new Set(others), new Set(["NotApplied" as const]))
      yield* release
      yield* Fiber.join(closing)
      // The first may be declared void.
      assert.isAtMost(count.ever - before, 1)
      const found = yield* admin`select from effect_kv.log where encode(key, 'escape') ~ 'closing/[1-9]'`
      assert.strictEqual(found.length, 0)
    }))

  it.effect("are not used by a batch for callers that have gone before it is sent", () =>
    Effect.gen(function*() {
      const { kv, sql } = yield* client(1, { maxInFlight: 1 })
      const put = (key: string) => Effect.forkChild(Effect.exit(Deadline.within(kv.put(key, "1"), "20 seconds")))
      const [alone, gone, stays] = yield* Effect.scoped(Effect.gen(function*() {
        yield* sql.reserve
        const puts = [yield* put("batch/alone"), yield* put("batch/gone"), yield* put("batch/stays")] as const
        const late = yield* Effect.forEach(
          ["batch/late/1", "batch/late/2"],
          (key) => Effect.flip(Deadline.within(kv.put(key, "1"), "300 millis")),
          { concurrency: "unbounded" }
        )
        // Calls are queued for at most 50 milliseconds, so these were in a batch that waited for a connection.
        assert.deepStrictEqual(late.map(({ outcome }) => outcome), ["NotApplied", "NotApplied"])
        yield* Fiber.interrupt(puts[1])
        return puts
      }))
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(alone)))
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(stays)))
      assert.isTrue(Exit.isFailure(yield* Fiber.await(gone)))
      const { entries } = yield* kv.range(KeyRange.prefix("batch/"))
      assert.deepStrictEqual(entries.map(({ key }) => key), ["batch/alone", "batch/stays"])
    }))

  it.effect("are waited for with a timer, which ends with the call", () =>
    Effect.gen(function*() {
      const { kv } = yield* client(1)
      const timers = () => process.getActiveResourcesInfo().filter((type) => type === "Timeout").length
      const before = timers()
      yield* Effect.forEach(Array.from({ length: 100 }), () => kv.get("warm"), { discard: true })
      assert.isBelow(timers(), before + 50)
    }))

  it.effect("are waited for until a deadline that is longer than any timer of Node", () =>
    Effect.gen(function*() {
      const { kv } = yield* client(1)
      const admin = yield* administrator
      for (const deadline of ["40 days", "Infinity"] as const) {
        const release = yield* holding(admin, "select revision from effect_kv.store for update")
        const put = yield* Effect.forkChild(Deadline.within(kv.put("late", "1"), deadline))
        yield* untilBlocked(admin, "write")
        yield* release
        yield* Fiber.join(put)
      }
    }))
})
