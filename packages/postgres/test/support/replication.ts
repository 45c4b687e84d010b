/**
 * A primary with a streaming replica, and the address by which clients reach whichever is the primary.
 */
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { connect } from "./store.ts"

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
export const connectTo = (port: number, options?: Parameters<typeof connect>[0]) =>
  Effect.flatMap(pool(port), (pg) => Effect.provideService(connect(options), PgClient.PgClient, pg))

interface Lsn {
  readonly lsn: string
}

/** Starts both. */
export const pair = Effect.gen(function*() {
  const primary = yield* PostgresServer.make()
  const link = yield* TcpProxy.make({ target: primary.port })
  const standby = yield* PostgresServer.make({ standbyOf: { server: primary, port: link.port } })
  const address = yield* TcpProxy.make({ target: primary.port })
  const onPrimary = yield* pool(primary.port)
  const onStandby = yield* pool(standby.port)

  const caughtUp = Effect.gen(function*() {
    const [{ lsn }] = (yield* onPrimary<Lsn>`select pg_current_wal_insert_lsn()::text as lsn`) as [Lsn]
    yield* Effect.repeat(
      onStandby<{ readonly done: boolean }>`
        select coalesce(pg_last_wal_replay_lsn() >= ${lsn}::pg_lsn, false) as done`,
      { until: ([row]) => row?.done === true, schedule: Schedule.spaced("20 millis") }
    )
  }).pipe(Effect.orDie)

  /** The primary dies, and the standby takes over. Clients reach nothing until `move`. */
  const promote = Effect.gen(function*() {
    yield* address.down
    yield* primary.kill
    yield* onStandby`select pg_promote()`
  }).pipe(Effect.orDie)

  /** The address leads to the standby from now on. */
  const move = Effect.orDie(Effect.andThen(address.retarget(standby.port), address.up))

  return { primary, standby, onPrimary, onStandby, link, address, caughtUp, promote, move }
})
