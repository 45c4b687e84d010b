/**
 * The health of Postgres servers: what a readiness probe learns of each problem.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as KvHealth from "@effect-kv/core/KvHealth"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresSchema from "@effect-kv/postgres/PostgresSchema"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { writeFileSync } from "node:fs"
import { join } from "node:path"

const open = (url: string, options?: PostgresLayer.Options) =>
  Effect.map(Layer.build(PostgresLayer.fromUrl(url, options)), Context.get(Kv.Kv))

const check = (kv: Kv.Kv, options?: KvHealth.Options) => Effect.provideService(KvHealth.check(options), Kv.Kv, kv)

const problems = (kv: Kv.Kv, options?: KvHealth.Options) =>
  Effect.map(
    Effect.flip(check(kv, options)),
    ({ problems }) => problems.map(({ message, problem }) => problem === "Alarm" ? message : problem)
  )

const databaseOf = (url: string) =>
  Effect.map(Layer.build(PgClient.layer({ url: Redacted.make(url) })), Context.get(PgClient.PgClient))

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("health on Postgres", (it) => {
  it.effect("a server that rejects the role, or that cannot be reached, is named so", () =>
    Effect.gen(function*() {
      const { port, url } = yield* PostgresServer.PostgresServer
      yield* check(yield* open(url))
      const nobody = yield* open(`postgres://nobody:secret@127.0.0.1:${port}/postgres`)
      assert.deepStrictEqual(yield* problems(nobody), ["Unauthenticated"])
      const away = yield* open("postgres://postgres@127.0.0.1:1/postgres")
      assert.deepStrictEqual(yield* problems(away, { deadline: "300 millis" }), ["Unreachable"])
    }))

  it.effect("a role that may not use the schema, or not create it, is not healthy", () =>
    Effect.gen(function*() {
      const { port, url } = yield* PostgresServer.PostgresServer
      const admin = yield* databaseOf(url)
      yield* admin`create role app login`
      const asApp = `postgres://app@127.0.0.1:${port}/postgres`
      const denied = ["the alarm NO_PRIVILEGES is active"]
      assert.deepStrictEqual(yield* problems(yield* open(asApp, { schema: "its own" })), denied)
      yield* admin.unsafe(PostgresSchema.script("it's"))
      const options = { schema: "it's", migrate: false }
      assert.deepStrictEqual(yield* problems(yield* open(asApp, options)), denied)
      yield* admin`grant usage on schema "it's" to app`
      yield* admin`grant select on all tables in schema "it's" to app`
      assert.deepStrictEqual(yield* problems(yield* open(asApp, options)), denied)
      yield* admin`grant insert, update, delete on all tables in schema "it's" to app`
      yield* check(yield* open(asApp, options))
    }))

  it.effect("a standby that has no store yet is named a standby, whether the client may create the store or not", () =>
    Effect.gen(function*() {
      const primary = yield* PostgresServer.make()
      const standby = yield* PostgresServer.make({ standbyOf: { server: primary } })
      const alarm = "the alarm READ_ONLY is active"
      assert.deepStrictEqual(yield* problems(yield* open(standby.url)), ["NoQuorum", alarm])
      assert.deepStrictEqual(yield* problems(yield* open(standby.url, { migrate: false })), ["NoQuorum", alarm])
    }))

  it.effect("a standby, which answers no linearizable read, is not healthy until it is promoted", () =>
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const kv = yield* open(server.url)
      yield* kv.put("a", "1")
      const admin = yield* databaseOf(server.url)
      const [settings] = yield* admin<{ readonly data_directory: string }>`show data_directory`
      yield* Effect.sync(() => writeFileSync(join(settings!.data_directory, "standby.signal"), ""))
      yield* server.restart
      assert.deepStrictEqual(yield* problems(kv), ["NoQuorum", "the alarm READ_ONLY is active"])
      yield* admin`select pg_promote()`
      yield* check(kv)
    }))
})
