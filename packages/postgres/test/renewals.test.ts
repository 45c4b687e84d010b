/**
 * Renewals of leases while the other calls of their client take long.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import { connect } from "./support/store.ts"
import { until } from "./support/until.ts"

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("renewals of leases", (it) => {
  it.effect("do not wait for connections that other calls of the client use", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const operator = yield* PgClient.make({ url: Redacted.make(url) })
      // A transaction sees the statistics as they were when it first read them.
      const observer = yield* PgClient.make({ url: Redacted.make(url) })
      const pg = yield* PgClient.make({ url: Redacted.make(url), applicationName: "client", maxConnections: 6 })
      const kv = Context.get(
        yield* Effect.provideService(connect({ batching: false }), PgClient.PgClient, pg),
        Kv.Kv
      )
      const backend = backendOf(kv)
      const { id } = yield* backend.leaseGrant({ ttl: "10 seconds" })
      // No write passes while this transaction lasts.
      yield* operator.withTransaction(Effect.gen(function*() {
        yield* operator`select revision from effect_kv.store for update`
        const puts = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 20 }, (_, i) => `${i}`), (key) => kv.put(key, "1"), {
            concurrency: "unbounded"
          })
        )
        const waiting = observer<{ readonly count: bigint }>`
          select count(*) from pg_stat_activity where application_name = 'client' and wait_event_type = 'Lock'`
        yield* until("three puts that wait for a lock", waiting, ([row]) => row!.count >= 3n)
        const lease = yield* Deadline.within(backend.leaseKeepAlive(id), "2 seconds")
        assert.strictEqual(lease.id, id)
        yield* Fiber.interrupt(puts)
      }))
    }).pipe(Effect.provide(Reactivity.layer)))
})
