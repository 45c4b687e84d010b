/**
 * A primary with a streaming replica, and the address by which clients reach one of them.
 */
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { connect } from "./store.ts"
import { until } from "./until.ts"

/** A pool of its own for a port of this machine. */
export const pool = (
  port: number,
  options?: Omit<PgClient.PgPoolConfig, "url">
): Effect.Effect<PgClient.PgClient, never, Scope.Scope> =>
  PgClient.make({ url: Redacted.make(`postgres://postgres@127.0.0.1:${port}/postgres`), ...options }).pipe(
    Effect.provide(Reactivity.layer),
    Effect.orDie
  )

/** A client of the store on a pool of its own. */
export const connectTo = (
  port: number,
  options?: Parameters<typeof connect>[0],
  poolOptions?: Parameters<typeof pool>[1]
) => Effect.flatMap(pool(port, poolOptions), (pg) => Effect.provideService(connect(options), PgClient.PgClient, pg))

interface Lsn {
  readonly lsn: string
}

const make = Effect.gen(function*() {
  const primary = yield* PostgresServer.make()
  const link = yield* TcpProxy.make({ target: primary.port })
  const standby = yield* PostgresServer.make({ standbyOf: { server: primary, port: link.port } })
  const address = yield* TcpProxy.make({ target: primary.port })
  const onPrimary = yield* pool(primary.port)
  const onStandby = yield* pool(standby.port)
  const caughtUp = Effect.gen(function*() {
    const [row] = yield* onPrimary<Lsn>`select pg_current_wal_insert_lsn()::text as lsn`
    yield* until(
      "the standby to catch up",
      onStandby<{ readonly done: boolean }>`
        select coalesce(pg_last_wal_replay_lsn() >= ${row?.lsn}::pg_lsn, false) as done`,
      ([row]) => row?.done === true
    )
  }).pipe(Effect.orDie)
  return { primary, standby, onPrimary, onStandby, link, address, caughtUp }
})

/**
 * The two servers. The standby streams through `link`. `address` leads clients to the primary at first. `caughtUp` waits
 * until the standby has replayed what the primary has written.
 */
export class Pair extends Context.Service<Pair, Effect.Success<typeof make>>()("@effect-kv/postgres/test/Pair") {}

export const pairLayer = Layer.effect(Pair, make)
