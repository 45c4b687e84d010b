/**
 * Calls that are given up at any moment, beside statements of the application on the same small pool: what they did, and
 * that neither their cancellation nor their connection reaches another statement.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as Op from "@effect-kv/core/Op"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import { administrator } from "./support/backends.ts"
import { connect } from "./support/store.ts"

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("calls that are given up", (it) => {
  for (const maxConnections of [1, 2, 3, 5]) {
    it.effect(`are applied as they say, and cancel no other statement, with ${maxConnections} connections`, () =>
      Effect.gen(function*() {
        const { url } = yield* PostgresServer.PostgresServer
        const sql = yield* PgClient.make({ url: Redacted.make(url), maxConnections }).pipe(
          Effect.provide(Reactivity.layer)
        )
        const context = yield* Effect.provideService(connect({ batching: false }), PgClient.PgClient, sql)
        const kv = Context.get(context, Kv.Kv)
        yield* kv.put("warm", "up")
        const prefix = `given-up/${maxConnections}/`
        const outcomes = new Map<string, string>()
        const call = Effect.fnUntraced(function*(name: string) {
          const key = prefix + name
          const millis = yield* Random.nextBetween(0, 25)
          const isLate = yield* Random.nextBoolean
          // A read in the transaction, so that the response is longer than that of a put.
          const put = kv.txn({ then: [Op.put(key, name), Op.range(KeyRange.prefix(prefix), { limit: 50 })] })
          const exit = yield* Effect.exit(
            isLate
              ? Effect.asSome(Deadline.within(put, `${Math.max(1, millis)} millis`))
              : Effect.timeoutOption(put, `${millis} millis`)
          )
          const outcome = Exit.isSuccess(exit)
            ? Option.isSome(exit.value) ? "Applied" : "Unknown"
            : exit.cause.reasons.map((reason) => reason._tag === "Fail" ? reason.error.outcome : reason._tag).join()
          outcomes.set(key, outcome)
        })
        yield* Effect.all([
          ...Array.from(
            { length: 6 },
            (_, caller) =>
              Effect.forEach(Array.from({ length: 60 }), (_, i) => call(`${caller}/${i}`), { discard: true })
          ),
          // Statements of the application: a cancellation of another's would fail them.
          ...Array.from({ length: 2 }, () =>
            Effect.forEach(
              Array.from({ length: 60 }),
              (_, i) =>
                i % 2 === 0
                  ? sql`select pg_sleep(0.003)`
                  : sql.withTransaction(Effect.andThen(sql`select pg_sleep(0.001)`, sql`select pg_sleep(0.002)`)),
              { discard: true }
            ))
        ], { concurrency: "unbounded", discard: true })
        // The pool still has all its connections.
        yield* Effect.all(Array.from({ length: maxConnections }, () => sql`select pg_sleep(0.01)`), {
          concurrency: "unbounded"
        })
        const admin = yield* administrator
        const written = yield* admin<{ readonly key: string; readonly times: number }>`
          select encode(key, 'escape') as key, count(*)::int as times from effect_kv.log
          where encode(key, 'escape') like ${`${prefix}%`} group by key`
        const times = new Map(written.map((row) => [row.key, row.times]))
        for (const [key, outcome] of outcomes) {
          const found = times.get(key) ?? 0
          assert.isAtMost(found, 1, key)
          if (outcome === "Applied") assert.strictEqual(found, 1, key)
          if (outcome === "NotApplied") assert.strictEqual(found, 0, key)
          assert.include(["Applied", "NotApplied", "Unknown"], outcome)
        }
      }))
  }
})
