/** The Postgres backend as installed: the lock of its README on a real server, if there is one, and its script. */
import { DistLock, Kv } from "@effect-kv/core"
import { PostgresLayer, PostgresSchema, PostgresStore } from "@effect-kv/postgres"
import * as PostgresLayerModule from "@effect-kv/postgres/PostgresLayer"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"

if (PostgresLayerModule.layer !== PostgresLayer.layer) throw new Error("two copies of a module")
if (!PostgresSchema.script("mine").includes("\"mine\".store")) throw new Error("the script does not create the schema")

const invalid = Effect.flip(Kv.get("a").pipe(Effect.provide(PostgresLayer.fromUrl("http://localhost"))))

const error = await Effect.runPromise(invalid)
if (error.reason._tag !== "InvalidRequest") throw error

const Database = Layer.unwrap(
  Effect.map(PostgresServer.PostgresServer, ({ url }) => PgClient.layer({ url: Redacted.make(url) }))
)

const program = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* sql`create table invoice (month text)`
  yield* sql.withTransaction(Effect.andThen(PostgresStore.fence, sql`insert into invoice (month) values ('2026-11')`))
  return yield* sql<{ readonly month: string }>`select month from invoice`
}).pipe(
  DistLock.withDistLock("nightly"),
  Effect.provide(Layer.provideMerge(PostgresLayer.layer(), Database)),
  Effect.provide(PostgresServer.layer())
)

// `npm test` says so if this platform has no server.
if (process.env["EFFECT_KV_POSTGRES"] !== undefined) {
  const [row] = await Effect.runPromise(program)
  if (row?.month !== "2026-11") throw new Error("the lock's body did not run")
}
