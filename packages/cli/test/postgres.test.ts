/**
 * The command line on a real Postgres server: the bundled program, commands, and what `doctor` finds.
 */
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as exitCodes from "../src/exitCodes.ts"
import * as inProcess from "./support/inProcess.ts"
import * as program from "./support/program.ts"

const run = Effect.fnUntraced(function*(args: ReadonlyArray<string>, env: Record<string, string> = {}) {
  const { url } = yield* PostgresServer.PostgresServer
  return yield* inProcess.run(args, { env: { KV_URL: url, ...env } })
})

/** The codes of what `doctor` finds wrong, and its text. */
const doctor = Effect.fnUntraced(function*(args: ReadonlyArray<string> = [], env: Record<string, string> = {}) {
  const result = yield* run(["doctor", "--json", "--timeout", "20s", ...args], env)
  const { findings }: { readonly findings: ReadonlyArray<{ readonly code: string; readonly severity: string }> } =
    inProcess.json(result)
  const wrong = findings.filter(({ code, severity }) => severity !== "Ok" && code !== "slow-renewals")
  assert.strictEqual(result.code, findings.some(({ severity }) => severity === "Problem") ? 1 : 0)
  return { codes: wrong.map(({ code }) => code), text: result.out }
})

const admin = Effect.gen(function*() {
  const { url } = yield* PostgresServer.PostgresServer
  return Context.get(yield* Layer.build(PgClient.layer({ url: Redacted.make(url) })), PgClient.PgClient)
})

const server = PostgresServer.layer({ settings: { fsync: "on" } })

layer(Layer.merge(server, program.layer), { excludeTestServices: true, timeout: "60 seconds" })("on Postgres", (it) => {
  it.effect("The bundled program runs a command under a lock, in a schema of its own, with the token", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const args = ["lock", "nightly", "--", "sh", "-c", "echo held by $EFFECT_KV_TOKEN"]
      const running = yield* program.start(process.execPath, [yield* program.Program, "--schema", "cli", ...args], {
        KV_URL: url
      })
      assert.strictEqual(yield* running.end, 0, running.output())
      assert.match(running.results(), /^held by \d+\n$/)
    }))

  it.effect("Commands work on keys and show locks, confined to the prefix", () =>
    Effect.gen(function*() {
      const env = { KV_PREFIX: "app/", KV_SCHEMA: "keys" }
      assert.strictEqual((yield* run(["put", "a", "1"], env)).code, 0)
      assert.strictEqual((yield* run(["get", "a"], env)).out, "1")
      assert.strictEqual((yield* run(["get", "app/a"], { KV_SCHEMA: "keys" })).out, "1")
      const shown = yield* run(["lock", "n", "--quiet", "--", "true"], env)
      assert.strictEqual(shown.code, 0, shown.err)
      assert.strictEqual((yield* run(["locks", "--json"], env)).code, 0)
      assert.strictEqual((yield* run(["get", "a"], { KV_SCHEMA: "another" })).code, exitCodes.no)
    }))

  it.effect("doctor names what is wrong with the schema, the durability and the permissions, and changes nothing", () =>
    Effect.gen(function*() {
      const sql = yield* admin
      const { port } = yield* PostgresServer.PostgresServer
      const schemas = Effect.map(
        sql<{ readonly nspname: string }>`select nspname from pg_namespace where nspname = 'effect_kv'`,
        (rows) => rows.length
      )
      assert.deepStrictEqual((yield* doctor()).codes, ["no-schema"])
      assert.strictEqual(yield* schemas, 0)
      assert.strictEqual((yield* run(["put", "a", "1"])).code, 0)
      const healthy = yield* doctor()
      assert.deepStrictEqual(healthy.codes, [], healthy.text)
      assert.match(healthy.text, /responds after \d+ ms: PostgreSQL \d+/)
      assert.match(healthy.text, /a lock was acquired and released/)
      assert.deepStrictEqual(yield* sql`select convert_from(key, 'UTF8') as key from effect_kv.entry`, [{ key: "a" }])
      assert.deepStrictEqual(yield* sql`select * from effect_kv.lease`, [])

      yield* sql`create role app login`
      yield* sql`alter role app set synchronous_commit = off`
      const asApp = { KV_URL: `postgres://app@127.0.0.1:${port}/postgres` }
      const denied = yield* doctor([], asApp)
      assert.deepStrictEqual(denied.codes, ["not-durable", "permission-denied"])
      assert.include(denied.text, "usage on schema")

      yield* sql`create or replace function effect_kv.schema_version() returns integer language sql as 'select 1'`
      assert.deepStrictEqual((yield* doctor()).codes, ["old-schema"])
      assert.deepStrictEqual(yield* sql`select effect_kv.schema_version() as version`, [{ version: 1 }])
    }))

  it.effect("doctor names why a server cannot be used, and shows no password", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const wrong: ReadonlyArray<readonly [string, string]> = [
        ["postgres://u:secret@127.0.0.1:1/app", "connection-refused"],
        [`postgres://stranger:secret@127.0.0.1:${port}/postgres`, "credentials-wrong"],
        [`postgres://postgres@127.0.0.1:${port}/nothing?password=secret`, "no-database"],
        ["postgres://u:secret@:::", "configuration"]
      ]
      for (const [KV_URL, code] of wrong) {
        const { codes, text } = yield* doctor([], { KV_URL })
        assert.deepStrictEqual(codes, [code])
        assert.notInclude(text, "secret")
      }
    }))

  it.effect("Flags of another kind of store are configuration errors that say where their meaning goes", () =>
    Effect.gen(function*() {
      const flags = [["--ca", "file"], ["--user", "u"], ["--insecure-skip-verify"]]
      for (const flag of flags) {
        const { code, err } = yield* run([...flag, "get", "a"])
        assert.strictEqual(code, exitCodes.configuration)
        assert.match(err, /is for etcd\. For Postgres, give user and TLS in the URL/)
      }
      const { code, err } = yield* run(["--schema", "s", "get", "a"], { KV_URL: "mem:" })
      assert.strictEqual(code, exitCodes.configuration)
      assert.match(err, /--schema is for Postgres/)
    }))
})
