/**
 * The command line on a real Postgres server: the bundled program, commands, and what `doctor` finds.
 */
import { PgBouncer, PostgresServer, TestCertificates } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { chmodSync, chownSync, copyFileSync, statSync, writeFileSync } from "node:fs"
import * as Net from "node:net"
import { join } from "node:path"
import * as postgresSettings from "../src/doctor/postgresSettings.ts"
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

/** A server that responds to the first bytes with a text; its port. */
const talker = (text: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<Net.Server>((resume) => {
        const server = Net.createServer((socket) => {
          socket.on("error", () => {})
          socket.once("data", () => socket.end(text))
        }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    ),
    (server) => Object(server.address()).port as number
  )

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
    }))

  it.effect("commands that only read or remove keys say that a schema is missing or too old, and do not change it", () =>
    Effect.gen(function*() {
      const sql = yield* admin
      const { port } = yield* PostgresServer.PostgresServer
      const commands = [
        ["get", "a"],
        ["ls"],
        ["watch", "a"],
        ["delete", "a", "--yes"],
        ["release", "a", "--token", "1"],
        ...["locks", "elections", "members", "sessions"].flatMap((name) => [[name], [name, "--watch"]])
      ]
      const attempts = (env: Record<string, string>) =>
        Effect.forEach(commands, (args) => Effect.map(run(args, env), ({ code, err }) => ({ args, code, err })))
      assert.strictEqual((yield* run(["put", "a", "1"], { KV_SCHEMA: "Theirs" })).code, 0)
      for (const { args, code, err } of yield* attempts({ KV_SCHEMA: "nope" })) {
        assert.strictEqual(code, exitCodes.configuration, `${args.join(" ")}: ${err}`)
        assert.include(err, `the database "postgres" has no schema "nope"`)
        assert.match(err, /name it with --schema \(KV_SCHEMA\)\. There are stores in: .*"Theirs"/)
      }
      assert.deepStrictEqual(yield* sql`select from pg_namespace where nspname = 'nope'`, [])

      yield* sql`create or replace function "Theirs".schema_version() returns integer language sql as 'select 1'`
      for (const { args, code, err } of yield* attempts({ KV_SCHEMA: "Theirs" })) {
        assert.strictEqual(code, exitCodes.configuration, `${args.join(" ")}: ${err}`)
        assert.include(err, `the schema "Theirs" has version 1`)
        assert.include(err, "their effect-kv")
      }
      assert.deepStrictEqual(yield* sql`select "Theirs".schema_version() as version`, [{ version: 1 }])

      yield* sql`create role limited login`
      const asLimited = { KV_URL: `postgres://limited@127.0.0.1:${port}/postgres` }
      for (const args of [["locks"], ["put", "a", "1"], ["lock", "n", "--", "true"]]) {
        const { code, err } = yield* run(args, { ...asLimited, KV_SCHEMA: "nope" })
        assert.strictEqual(code, exitCodes.configuration, err)
        assert.include(err, `has no schema "nope", and the role "limited" may not create it`)
      }
      assert.strictEqual((yield* run(["put", "a", "1"], { KV_SCHEMA: "others" })).code, 0)
      const denied = yield* run(["locks"], { ...asLimited, KV_SCHEMA: "others" })
      assert.strictEqual(denied.code, exitCodes.notPermitted)
      assert.include(denied.err, "usage on schema")
      assert.notInclude(denied.err, "PREFIX")
      const shared = yield* run(["locks"], { KV_SCHEMA: "public" })
      assert.strictEqual(shared.code, exitCodes.configuration)
      assert.include(shared.err, "a schema of its own")
      assert.deepStrictEqual((yield* doctor([], { KV_SCHEMA: "public" })).codes, ["configuration"])
    }))

  it.effect("doctor names what is wrong with the schema and the permissions, and changes nothing", () =>
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
      const asApp = { KV_URL: `postgres://app@127.0.0.1:${port}/postgres` }
      const missing = yield* doctor(["--schema", "unknown"], asApp)
      assert.deepStrictEqual(missing.codes, ["no-schema"])
      assert.include(missing.text, "may not create it")
      assert.include(missing.text, "PostgresSchema.script(\\\"unknown\\\")")
      const denied = yield* doctor([], asApp)
      assert.deepStrictEqual(denied.codes, ["permission-denied"])
      assert.include(denied.text, "usage on schema")
      yield* sql`grant usage on schema effect_kv to app`
      yield* sql`grant select, insert, update, delete on all tables in schema effect_kv to app`
      assert.deepStrictEqual((yield* doctor([], asApp)).codes, [])
      // A call needs it only if a response was lost.
      yield* sql`revoke insert on effect_kv.void from app`
      assert.deepStrictEqual((yield* doctor([], asApp)).codes, ["permission-denied"])
      yield* sql`grant insert on effect_kv.void to app`

      yield* sql`create or replace function effect_kv.oldest_client() returns integer language sql as 'select 98'`
      yield* sql`create or replace function effect_kv.schema_version() returns integer language sql as 'select 99'`
      assert.deepStrictEqual((yield* doctor()).codes, ["new-schema"])
      yield* sql`create or replace function effect_kv.schema_version() returns integer language sql as 'select 1'`
      assert.deepStrictEqual((yield* doctor()).codes, ["old-schema"])
      const notOwner = yield* doctor([], asApp)
      assert.deepStrictEqual(notOwner.codes, ["old-schema"])
      assert.include(notOwner.text, "may not upgrade it")
      assert.deepStrictEqual(yield* sql`select effect_kv.schema_version() as version`, [{ version: 1 }])
      yield* sql`create schema shop`
      yield* sql`create table shop.store (name text)`
      assert.deepStrictEqual((yield* doctor(["--schema", "shop"])).codes, ["foreign-schema"])
    }))

  it.effect("doctor names settings of the role and the server that delay, lose or end the work of a store", () =>
    Effect.gen(function*() {
      const sql = yield* admin
      const { port } = yield* PostgresServer.PostgresServer
      const KV_SCHEMA = "settings"
      assert.strictEqual((yield* run(["put", "a", "1"], { KV_SCHEMA })).code, 0)
      yield* sql`create role tuned login superuser`
      const asTuned = { KV_SCHEMA, KV_URL: `postgres://tuned@127.0.0.1:${port}/postgres` }
      assert.deepStrictEqual((yield* doctor([], asTuned)).codes, [])
      const isNew = (yield* sql<{ readonly is: boolean }>`
        select current_setting('server_version_num')::int >= 170000 as is`)[0]!.is
      const settings: ReadonlyArray<readonly [string, string, ReadonlyArray<string>]> = [
        ["synchronous_commit", "off", []],
        ["default_transaction_isolation", "'repeatable read'", ["isolation"]],
        ["default_transaction_read_only", "on", ["read-only"]],
        ["statement_timeout", "'1500ms'", ["short-timeout"]],
        ["statement_timeout", "'5s'", []],
        ["idle_session_timeout", "'30s'", ["short-timeout"]],
        ...isNew ? [["transaction_timeout", "'5min'", ["dead-clients"]] as const] : []
      ]
      for (const [name, value, codes] of settings) {
        yield* sql.unsafe(`alter role tuned set ${name} = ${value}`)
        const found = yield* doctor([], asTuned)
        assert.deepStrictEqual(found.codes, codes, `${name}: ${found.text}`)
        yield* sql.unsafe(`alter role tuned reset ${name}`)
      }
      yield* sql`alter role tuned nosuperuser connection limit 3`
      yield* sql`grant all on schema settings to tuned`
      yield* sql`grant all on all tables in schema settings to tuned`
      const limited = yield* doctor([], asTuned)
      assert.deepStrictEqual(limited.codes, ["few-connections"], limited.text)
      yield* sql`alter role tuned connection limit 0`
      assert.deepStrictEqual((yield* doctor([], asTuned)).codes, ["too-many-connections"])
    }))

  it.effect("doctor names replicas that may lose writes, a replica that is missing, and a standby", () =>
    Effect.gen(function*() {
      const primary = yield* PostgresServer.make({ settings: { fsync: "on" } })
      const standby = yield* PostgresServer.make({ standbyOf: { server: primary } })
      const sql = Context.get(
        yield* Layer.build(PgClient.layer({ url: Redacted.make(primary.url) })),
        PgClient.PgClient
      )
      const streaming = (count: number) =>
        Effect.repeat(sql<{ readonly n: number }>`select count(*)::int as n from pg_stat_replication`, {
          until: ([row]) => row?.n === count,
          schedule: Schedule.spaced("20 millis")
        })
      const set = (name: string, value: string) =>
        Effect.andThen(sql.unsafe(`alter system set ${name} = '${value}'`), sql`select pg_reload_conf()`)
      const KV_URL = primary.url
      yield* streaming(1)
      assert.strictEqual((yield* run(["put", "a", "1"], { KV_URL })).code, 0)
      assert.deepStrictEqual((yield* doctor([], { KV_URL })).codes, ["asynchronous-replicas"])
      assert.deepStrictEqual((yield* doctor([], { KV_URL: standby.url })).codes, ["standby"])
      const lagging = yield* run(["locks"], { KV_URL: standby.url, KV_SCHEMA: "later", KV_TIMEOUT: "500ms" })
      assert.strictEqual(lagging.code, exitCodes.unavailable)
      assert.include(lagging.err, "connect to the primary")
      yield* set("synchronous_standby_names", "*")
      yield* Effect.repeat(
        sql<{ readonly n: number }>`
        select count(*)::int as n from pg_stat_replication where sync_state = 'sync'`,
        {
          until: ([row]) => row?.n === 1,
          schedule: Schedule.spaced("20 millis")
        }
      )
      assert.deepStrictEqual((yield* doctor([], { KV_URL })).codes, [])
      yield* sql`alter role postgres set synchronous_commit = local`
      assert.deepStrictEqual((yield* doctor([], { KV_URL })).codes, ["asynchronous-replicas"])
      yield* sql`alter role postgres reset synchronous_commit`
      yield* standby.kill
      yield* streaming(0)
      const hanging = yield* doctor([], { KV_URL })
      assert.deepStrictEqual(hanging.codes, ["no-synchronous-standby"])
      yield* set("synchronous_standby_names", "")
    }))

  it.effect("doctor names a pooler that passes no notifications on", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const KV_SCHEMA = "pooled"
      assert.strictEqual((yield* run(["put", "a", "1"], { KV_SCHEMA })).code, 0)
      const codes = { session: [], transaction: ["no-notifications"] }
      for (const mode of ["session", "transaction"] as const) {
        const { url } = yield* PgBouncer.make({ target: port, mode })
        const found = yield* doctor([], { KV_SCHEMA, KV_URL: url })
        assert.deepStrictEqual(found.codes, codes[mode], found.text)
      }
    }))

  it.effect("doctor names why a server cannot be used, and shows no password", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const wrong: ReadonlyArray<readonly [string, string]> = [
        ["postgres://u:secret@127.0.0.1:1/app", "connection-refused"],
        [`postgres://stranger:secret@127.0.0.1:${port}/postgres`, "credentials-wrong"],
        [`postgres://postgres@127.0.0.1:${port}/nothing?password=secret`, "no-database"],
        [`postgres://postgres:secret@127.0.0.1:${port}/postgres?sslmode=require`, "server-speaks-plain"],
        [
          `postgres://postgres:secret@127.0.0.1:${yield* talker("HTTP/1.1 400 Bad Request\r\n\r\n")}/app`,
          "not-postgres"
        ],
        [`postgres://postgres:secret@127.0.0.1:${yield* talker("N")}/app?sslmode=verify-full`, "server-speaks-plain"],
        [`postgres://u:secret@host.invalid:${port}/app`, "unknown-host"],
        [`postgres://u:secret@127.0.0.1:${port}/app?sslmode=always`, "configuration"],
        ["postgres://u:secret@:::", "configuration"]
      ]
      for (const [KV_URL, code] of wrong) {
        const { codes, text } = yield* doctor([], { KV_URL })
        assert.deepStrictEqual(codes, [code])
        assert.notInclude(text, "secret")
      }
    }))

  it.effect("doctor names a server that demands a password or TLS, and a certificate that this machine cannot verify", () =>
    Effect.gen(function*() {
      const { data, port, url } = yield* PostgresServer.make()
      const sql = Context.get(yield* Layer.build(PgClient.layer({ url: Redacted.make(url) })), PgClient.PgClient)
      const { certFile, keyFile } = yield* (yield* TestCertificates.make()).server()
      const { gid, uid } = statSync(data)
      for (const [name, file] of [["server.crt", certFile], ["server.key", keyFile]] as const) {
        const copy = join(data, name)
        copyFileSync(file, copy)
        chmodSync(copy, 0o600)
        chownSync(copy, uid, gid)
      }
      const hba = join(data, "pg_hba.conf")
      writeFileSync(hba, `hostssl all all 127.0.0.1/32 trust\nhost all local 127.0.0.1/32 trust\n`)
      yield* sql`create role local login superuser`
      yield* sql`alter system set ssl = on`
      yield* sql`select pg_reload_conf()`
      const codes = (user: string, options = "") =>
        Effect.map(
          doctor([], { KV_URL: `postgres://${user}@127.0.0.1:${port}/postgres${options}` }),
          ({ codes }) => codes
        )
      yield* Effect.repeat(codes("postgres"), {
        until: (found) => found.includes("server-wants-tls"),
        schedule: Schedule.spaced("50 millis"),
        times: 200
      })
      assert.deepStrictEqual(yield* codes("postgres"), ["server-wants-tls"])
      assert.notInclude(yield* codes("postgres", "?sslmode=require"), "server-wants-tls")
      assert.deepStrictEqual(yield* codes("postgres", "?sslmode=verify-full"), ["unknown-authority"])
      writeFileSync(hba, `host all postgres 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n`)
      const local = PgClient.layer({ url: Redacted.make(`postgres://local@127.0.0.1:${port}/postgres`) })
      yield* Effect.provide(Effect.flatMap(PgClient.PgClient, (sql) => sql`select pg_reload_conf()`), local)
      yield* Effect.repeat(codes("postgres"), {
        until: (found) => found.includes("credentials-missing"),
        schedule: Schedule.spaced("50 millis"),
        times: 200
      })
      assert.deepStrictEqual(yield* codes("postgres"), ["credentials-missing"])
    }))

  it.effect("a database that does not exist is a configuration error", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const { code, err } = yield* run(["get", "a"], { KV_URL: `postgres://postgres@127.0.0.1:${port}/nothing` })
      assert.strictEqual(code, exitCodes.configuration)
      assert.include(err, "Correct the end of the URL")
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

it("doctor names an old version, a missing autovacuum, and TCP settings that keep dead clients, and nothing else", () => {
  const server: postgresSettings.Server = {
    version: 180_001,
    shown_version: "18.1",
    is_standby: false,
    is_read_only: false,
    settings: {
      autovacuum: "on",
      default_transaction_isolation: "read committed",
      fsync: "on",
      statement_timeout: "0",
      synchronous_commit: "on",
      synchronous_standby_names: "",
      tcp_keepalives_count: "9",
      tcp_keepalives_idle: "7200",
      tcp_keepalives_interval: "75",
      transaction_timeout: "0"
    },
    replicas: 0,
    free_connections: 10
  }
  const codes = (changes: Partial<postgresSettings.Server>, settings: Record<string, string> = {}) =>
    postgresSettings.findings({ ...server, ...changes, settings: { ...server.settings, ...settings } })
      .map(({ code }) => code)
  assert.deepStrictEqual(codes({}), [])
  assert.deepStrictEqual(codes({ version: 160_003 }), ["dead-clients"])
  const soon = { tcp_keepalives_idle: "10", tcp_keepalives_interval: "3", tcp_keepalives_count: "3" }
  assert.deepStrictEqual(codes({ version: 160_003 }, soon), [])
  assert.deepStrictEqual(codes({ version: 140_010 }, soon), ["unsupported-version"])
  assert.deepStrictEqual(codes({}, { autovacuum: "off" }), ["no-autovacuum"])
  assert.deepStrictEqual(codes({}, { fsync: "off" }), ["not-durable"])
  assert.deepStrictEqual(codes({}, { transaction_timeout: "30000" }), [])
  assert.deepStrictEqual(codes({}, { transaction_timeout: "1000" }), ["short-timeout"])
  assert.deepStrictEqual(codes({ free_connections: 9 }), ["few-connections"])
})
