/**
 * A real Postgres server as the store of the conformance suite: one server and one pool for all cases.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import { KvConformance } from "@effect-kv/test-suite/conformance"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"

/**
 * The client that an application has, of the server in the environment. A case may have dozens of clients, each of which
 * keeps a connection while it watches.
 */
export const database = Layer.unwrap(Effect.map(PostgresServer.PostgresServer, ({ port }) => databaseAt(port)))

/** The same behind a proxy at this port. */
export const databaseAt = (port: number) =>
  PgClient.layer({ url: Redacted.make(`postgres://postgres@127.0.0.1:${port}/postgres`), maxConnections: 150 })

/** A client of its own, as if it were in another process, on the pool of the environment. */
export const connect = (options?: PostgresLayer.Options) =>
  Effect.suspend(() => Layer.build(Layer.fresh(PostgresLayer.layer(options))))

const store = (options: PostgresLayer.Options) =>
  Effect.gen(function*() {
    const pg = yield* PgClient.PgClient
    const operator = yield* connect(options)
    return KvConformance.Store.of({
      client: Effect.map(Effect.provideService(connect(options), PgClient.PgClient, pg), Context.get(Kv.Kv)),
      compact: Context.get(operator, PostgresStore.PostgresStore).compact,
      passTime: Effect.sleep,
      limits: KvConformance.defaultLimits,
      unreachable: {
        client: Effect.map(
          Layer.build(Layer.fresh(PostgresLayer.fromUrl("postgres://postgres@127.0.0.1:1/postgres", options))),
          Context.get(Kv.Kv)
        ),
        cause: /ECONNREFUSED 127\.0\.0\.1:1/
      }
    })
  })

/** Runs the suite on one server for all cases. */
export const suite = (name: string, options: PostgresLayer.Options): void =>
  KvConformance.suite(name, {
    layer: Layer.effect(KvConformance.Store, store(options)).pipe(
      Layer.provide(database),
      Layer.provide(PostgresServer.layer())
    ),
    shared: true,
    // The longest cases take half a minute of work, and a machine may be busy.
    timeout: 180_000
  })
