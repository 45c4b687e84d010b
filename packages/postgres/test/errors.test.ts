/**
 * Typed errors for what is wrong with a database, its permissions or the options, on a real server.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as KvUrl from "@effect-kv/core/KvUrl"
import type * as LockError from "@effect-kv/core/LockError"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresSchema from "@effect-kv/postgres/PostgresSchema"
import { PostgresServer, TestCertificates } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import { assert, layer } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Result from "effect/Result"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { oldestServer } from "../src/internal/schema/script.ts"
import * as sqlErrors from "../src/internal/sqlErrors.ts"
import { createVersion1 } from "./support/schemas.ts"

const open = (url: string, options?: PostgresLayer.Options) =>
  Effect.map(Layer.build(PostgresLayer.fromUrl(url, options)), Context.get(Kv.Kv))

/** Removes the name of the system's user, which a client without a user has, until the scope closes. */
const withoutSystemUser = Effect.forEach(["USER", "USERNAME"], (name) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const value = process.env[name]
      delete process.env[name]
      return value
    }),
    (value) =>
      Effect.sync(() => {
        if (value !== undefined) process.env[name] = value
      })
  ))

/** The error of Node for a certificate with other names. */
const wrongName = Object.assign(new Error("not in the cert's altnames"), { code: "ERR_TLS_CERT_ALTNAME_INVALID" })

const failureOf = <A, R>(effect: Effect.Effect<A, KvError.KvError, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason)

layer(PostgresServer.layer(), { excludeTestServices: true, timeout: "1 minute" })("errors on Postgres", (it) => {
  it.effect("an unreachable server fails a call with Unavailable at its deadline", () =>
    Effect.gen(function*() {
      const kv = yield* open("postgres://postgres@127.0.0.1:1/postgres")
      const reason = yield* failureOf(Deadline.within(kv.get("a"), "300 millis"))
      assert.strictEqual(reason._tag, "Unavailable", reason.message)
      assert.strictEqual((yield* failureOf(Deadline.within(kv.put("a", "1"), "300 millis")))._tag, "Unavailable")
    }))

  it.effect("a client whose URL is invalid or has several hosts fails a call with InvalidRequest, at once", () =>
    Effect.gen(function*() {
      for (const url of ["postgres://app:secret@a:1,b:2/postgres", "postgres://app:secret@a,b/postgres", "nonsense"]) {
        const layer = PostgresLayer.layer().pipe(Layer.provide(PgClient.layer({ url: Redacted.make(url) })))
        const kv = Context.get(yield* Layer.build(layer), Kv.Kv)
        const reason = yield* failureOf(Deadline.within(kv.get("a"), "1 minute"))
        assert.strictEqual(reason._tag, "InvalidRequest", reason.message)
        assert.include(reason.message, "with one host")
        assert.notInclude(reason.message, "secret")
      }
    }))

  it.effect("a client without a user, or with an option in its URL that is wrong, fails a call at once", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      yield* withoutSystemUser
      for (
        const url of [`postgres://127.0.0.1:${port}/postgres`, `postgres://u:secret@127.0.0.1:${port}/a?sslmode=on`]
      ) {
        const reason = yield* failureOf(Effect.flatMap(open(url, { deadline: "1 minute" }), (kv) => kv.get("a")))
        assert.strictEqual(reason._tag, "InvalidRequest", reason.message)
        assert.include(reason.message, "the URL of the PgClient must have the form")
        assert.notInclude(reason.message, "secret")
      }
    }))

  it.effect("a server without TLS, and one of another protocol, are Unavailable with what to do", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const other = yield* Effect.acquireRelease(
        Effect.callback<Net.Server>((resume) => {
          const server = Net.createServer((socket) => {
            socket.on("error", () => {})
            socket.once("data", () => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"))
          }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const advice: ReadonlyArray<readonly [string, string]> = [
        [`postgres://postgres@127.0.0.1:${port}/postgres?sslmode=require`, "sslmode=disable"],
        [`postgres://postgres@127.0.0.1:${Object(other.address()).port}/postgres`, "something other than Postgres"]
      ]
      for (const [url, text] of advice) {
        const reason = yield* failureOf(Effect.flatMap(open(url, { deadline: "300 millis" }), (kv) => kv.get("a")))
        assert.strictEqual(reason._tag, "Unavailable", reason.message)
        assert.include(reason.message, text)
      }
    }))

  it.effect("a role that does not exist is Unauthenticated", () =>
    Effect.gen(function*() {
      const { port } = yield* PostgresServer.PostgresServer
      const kv = yield* open(`postgres://stranger:secret@127.0.0.1:${port}/postgres`)
      const reason = yield* failureOf(kv.get("a"))
      assert.strictEqual(reason._tag, "Unauthenticated", reason.message)
      assert.notInclude(reason.message, "secret")
    }))

  it.effect("a role without permissions is PermissionDenied with the grants that it lacks, until it has them", () =>
    Effect.gen(function*() {
      const { port, url } = yield* PostgresServer.PostgresServer
      const admin = Context.get(
        yield* Layer.build(PgClient.layer({ url: Redacted.make(url) })),
        PgClient.PgClient
      )
      yield* admin`create role app login`
      const asApp = `postgres://app@127.0.0.1:${port}/postgres`
      const options = { schema: "by script", migrate: false }
      const put = (options: PostgresLayer.Options) => Effect.flatMap(open(asApp, options), (kv) => kv.put("a", "1"))
      const missing = yield* failureOf(put(options))
      assert.strictEqual(missing._tag, "InvalidRequest")
      assert.include(missing.message, "PostgresSchema.script(\"by script\")")
      const lacks = Effect.fnUntraced(function*(grants: string, options: PostgresLayer.Options) {
        const denied = yield* failureOf(put(options))
        assert.strictEqual(denied._tag, "PermissionDenied")
        assert.match(denied.message, new RegExp(`; ${grants}$`))
      })
      const orByScript = (schema: string) =>
        `, to create the store; or run the text of PostgresSchema.script\\("${schema}"\\) as a role that may, and set ` +
        "migrate: false"
      yield* lacks(`the role "app" lacks: create on database "postgres"${orByScript("its own")}`, { schema: "its own" })
      yield* admin`create schema empty`
      yield* admin`grant usage on schema empty to app`
      yield* lacks(`the role "app" lacks: create on schema "empty"${orByScript("empty")}`, { schema: "empty" })
      yield* admin`grant create on schema empty to app`
      yield* put({ schema: "empty" })

      yield* admin.unsafe(PostgresSchema.script("by script"))
      yield* lacks(
        "the role \"app\" lacks: usage on schema \"by script\"; " +
          "select, insert, update, delete on all tables in schema \"by script\"",
        options
      )
      yield* admin`grant usage on schema "by script" to app`
      yield* lacks(".* lacks: select, insert, update, delete on all tables in schema \"by script\"", options)
      yield* admin`grant select, insert, update, delete on all tables in schema "by script" to app`
      yield* admin`revoke insert on "by script".log from app`
      yield* lacks(".* lacks: insert on \"by script\".\"log\"", options)
      yield* admin`grant insert on "by script".log to app`
      yield* admin`revoke execute on all functions in schema "by script" from public`
      yield* lacks(".* lacks: execute on all functions in schema \"by script\"", options)
      yield* admin`grant execute on all functions in schema "by script" to app`
      const kv = yield* open(asApp, options)
      yield* kv.put("a", "1")
      assert.deepStrictEqual(yield* kv.get("a"), Option.some("1"))
    }))

  it.effect("a replica that rejects the password is named with the reason, once, and the primary answers", () =>
    Effect.gen(function*() {
      const { data, port, url } = yield* PostgresServer.PostgresServer
      const sql = Context.get(yield* Layer.build(PgClient.layer({ url: Redacted.make(url) })), PgClient.PgClient)
      yield* sql`create role replica_reader login password 'correct horse'`
      const hba = Path.join(data, "pg_hba.conf")
      const before = Fs.readFileSync(hba, "utf8")
      Fs.writeFileSync(hba, `host all replica_reader 127.0.0.1/32 scram-sha-256\n${before}`)
      yield* sql`select pg_reload_conf()`
      const asReader = `postgres://replica_reader:hunter2@127.0.0.1:${port}/postgres`
      const probe = Effect.flip(
        Effect.scoped(
          Layer.build(Layer.fresh(PgClient.layer({ url: Redacted.make(asReader) }))).pipe(
            Effect.flatMap((context) => Context.get(context, PgClient.PgClient)`select 1`)
          )
        )
      )
      yield* Effect.repeat(Effect.option(probe), { until: Option.isSome })
      const logged: Array<string> = []
      const logger = Logger.make(({ fiber, message }) => {
        logged.push(JSON.stringify([message, fiber.getRef(References.CurrentLogAnnotations)]))
      })
      yield* Effect.gen(function*() {
        const kv = yield* open(url, { replica: PgClient.layer({ url: Redacted.make(asReader) }) })
        yield* kv.put("read", "1")
        assert.deepStrictEqual(yield* kv.get("read", { serializable: true }), Option.some("1"))
        assert.deepStrictEqual(yield* kv.get("read", { serializable: true }), Option.some("1"))
      }).pipe(Effect.provide(Logger.layer([logger])))
      const warnings = logged.filter((text) => text.includes("replica cannot be read"))
      assert.strictEqual(warnings.length, 1, logged.join())
      assert.match(warnings[0]!, /password authentication failed for user .*replica_reader.* \(SQLSTATE 28P01\)/)
      assert.notMatch(logged.join(), /hunter2|correct horse/)
    }))

  it.effect("a lock that times out names the outage that it is in, and none that has passed", () =>
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const kv = yield* open(server.url)
      const limited = (name: string, acquireTimeout: "300 millis" | "3 seconds" = "300 millis") =>
        Effect.flip(
          Effect.provideService(
            DistLock.withDistLock(Effect.never, name, { acquireTimeout }),
            Kv.Kv,
            kv
          )
        )
      yield* server.kill
      assert.match(
        (yield* limited("outage")).message,
        /could not be reached: Postgres: .*(ECONNREFUSED|Connection closed)/
      )
      yield* server.start
      yield* Effect.scoped(Effect.gen(function*() {
        const other = yield* open(server.url)
        yield* Effect.provideService(DistLock.acquire("outage"), Kv.Kv, other)
        const timeout = yield* limited("outage")
        assert.deepStrictEqual((timeout as LockError.LockTimeout).storeFailure, Option.none(), timeout.message)
        const waiting = yield* Effect.forkChild(limited("outage", "3 seconds"))
        yield* Effect.repeat(other.count(KeyRange.prefix("outage/")), { until: (count) => count === 2 })
        yield* server.kill
        const cut = yield* Fiber.join(waiting)
        assert.match(cut.message, /could not be reached: Postgres: .*(ECONNREFUSED|[Cc]onnection|closed)/)
        yield* server.start
      }))
    }))

  it.effect("TLS that cannot work fails a call at once with Unavailable, whatever its deadline, and says what would work", () =>
    Effect.gen(function*() {
      const { data, url } = yield* PostgresServer.PostgresServer
      const connecting = Effect.fnUntraced(function*(options: Omit<PgClient.PgPoolConfig, "url">, query = "") {
        const database = PgClient.layer({ url: Redacted.make(`${url}${query}`), ...options })
        const kv = Context.get(
          yield* Layer.build(Layer.fresh(Layer.provide(PostgresLayer.layer({ deadline: "1 hour" }), database))),
          Kv.Kv
        )
        return yield* Effect.result(kv.get("tls"))
      })
      const rejected = Effect.fnUntraced(function*(...how: Parameters<typeof connecting>) {
        const { reason } = yield* Effect.flip(Effect.flatMap(connecting(...how), Effect.fromResult))
        assert.strictEqual(reason._tag, "Unavailable")
        return reason.message
      })
      assert.match(yield* rejected({}, "?sslmode=require"), /does not support TLS; .*sslmode=disable/)
      const sql = Context.get(yield* Layer.build(PgClient.layer({ url: Redacted.make(url) })), PgClient.PgClient)
      const [authority, other] = [yield* TestCertificates.make(), yield* TestCertificates.make("another authority")]
      const serve = Effect.fnUntraced(function*({ cert, key }: TestCertificates.Certificate) {
        const { gid, uid } = Fs.statSync(data)
        for (const [name, text] of [["server.crt", cert], ["server.key", key]] as const) {
          const file = Path.join(data, name)
          Fs.writeFileSync(file, text, { mode: 0o600 })
          Fs.chownSync(file, uid, gid)
        }
        yield* sql`alter system set ssl = on`
        yield* sql`select pg_reload_conf()`
      })
      yield* serve(yield* authority.server())
      const ca = authority.ca.cert
      yield* Effect.repeat(connecting({ ssl: { ca } }), { until: Result.isSuccess })
      assert.match(yield* rejected({ ssl: { ca: other.ca.cert } }), /certificate.*; set ssl\.ca of the PgClient/)
      assert.match(yield* rejected({}, "?sslmode=require"), /certificate.*; set ssl\.ca of the PgClient/)
      assert.match(
        yield* rejected({ ssl: { ca, checkServerIdentity: () => wrongName } }),
        /altnames.*; connect by a name that is in the server's certificate/
      )
      yield* serve(yield* authority.expiredServer())
      const expired = yield* Effect.repeat(connecting({ ssl: { ca } }), { until: Result.isFailure })
      assert.match(Result.isFailure(expired) ? expired.failure.message : "", /expired; renew the server's certificate/)
    }))

  it.effect("a server that is too old is told apart by the script, and the error names the oldest version", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const sql = Context.get(yield* Layer.build(PgClient.layer({ url: Redacted.make(url) })), PgClient.PgClient)
      // As if this server's version were below the oldest one.
      const script = PostgresSchema.script("old").replace(`< ${oldestServer}`, "< 990000")
      const error = yield* Effect.flip(sql.unsafe(script))
      const reason = sqlErrors.reasonOf(error)
      assert.strictEqual(reason._tag, "InvalidRequest")
      assert.match(reason.message, /needs PostgreSQL 15 or later, and this server is PostgreSQL \d+/)
    }))

  it.effect("a connection that the server or a pooler ended, for whatever reason, leaves open whether a write was applied", () =>
    Effect.sync(() => {
      const ofServer = { severity: "FATAL", severityUnlocalized: "FATAL" }
      const ofPooler = { severity: "ERROR" }
      const outcomes = [
        ["25P04", ofServer, true],
        ["57P01", ofServer, true],
        ["40001", ofServer, false],
        ["58030", ofServer, false],
        ["58000", ofPooler, true],
        ["XX000", ofPooler, true]
      ] as const
      for (const [code, fields, mayBeApplied] of outcomes) {
        const error = new SqlError({
          reason: new UnknownError({ cause: Object.assign(new Error("ended"), { code, ...fields }) })
        })
        assert.strictEqual(sqlErrors.mayBeApplied(error), mayBeApplied, code)
        assert.strictEqual(sqlErrors.reasonOf(error)._tag, "Unavailable", code)
      }
    }))

  it.effect("a role that does not own an old schema is PermissionDenied, and is told who can upgrade it", () =>
    Effect.gen(function*() {
      const { port, url } = yield* PostgresServer.PostgresServer
      const admin = yield* Layer.build(PgClient.layer({ url: Redacted.make(url) }))
      yield* Effect.provideContext(createVersion1("owned"), admin)
      const sql = Context.get(admin, PgClient.PgClient)
      yield* sql`create role reader login`
      yield* sql`grant usage on schema owned to reader`
      yield* sql`grant select, insert, update, delete on all tables in schema owned to reader`
      const kv = yield* open(`postgres://reader@127.0.0.1:${port}/postgres`, { schema: "owned" })
      const denied = yield* failureOf(kv.get("a"))
      assert.strictEqual(denied._tag, "PermissionDenied")
      assert.include(denied.message, "only their owner can upgrade")
      assert.include(denied.message, "PostgresSchema.script(\"owned\")")
      yield* sql.unsafe(PostgresSchema.script("owned"))
      assert.deepStrictEqual(yield* kv.get("a"), Option.none())
    }))

  it.effect("invalid options and URLs are InvalidRequest, and no message repeats a password", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const wrong: ReadonlyArray<readonly [string, PostgresLayer.Options]> = [
        [url, { schema: "" }],
        [url, { schema: "s".repeat(64) }],
        [url, { schema: "public" }],
        [url, { schema: "pg_catalog" }],
        [url, { schema: "pg_mine" }],
        [url, { schema: "information_schema" }],
        [url, { prefix: "\ud800" }],
        [url, { history: { revisions: 0 } }],
        [url, { deadline: 0 }],
        [url, { batching: { maxOps: 0 } }],
        ["http://user:secret@localhost", {}],
        ["postgres://user:secret@:::", {}],
        ["postgres://user:secret@one:5432,two:5432/app?target_session_attrs=read-write", {}]
      ]
      for (const [url, options] of wrong) {
        const reason = yield* failureOf(open(url, options))
        assert.strictEqual(reason._tag, "InvalidRequest")
        assert.notInclude(reason.message, "secret")
        const { schema } = options
        if (schema === undefined) continue
        if (schema.length > 0 && schema.length < 64) assert.include(reason.message, "such as \"effect_kv\"")
        assert.throws(() => PostgresSchema.script(schema), reason.message)
      }
    }))

  it.effect("a client that may not create the store learns what the database has instead, and where", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const sql = Context.get(yield* Layer.build(PgClient.layer({ url: Redacted.make(url) })), PgClient.PgClient)
      const reason = (schema: string) =>
        failureOf(Effect.flatMap(open(url, { schema, migrate: false }), (kv) => kv.get("a")))
      yield* sql`create schema hollow`
      yield* sql.unsafe(PostgresSchema.script("Orders"))
      const missing = yield* reason("order")
      assert.strictEqual(missing._tag, "InvalidRequest")
      assert.include(missing.message, "the database \"postgres\" has no schema \"order\" (there are stores in: ")
      assert.match(missing.message, /\(.*"Orders".*\)/)
      assert.include((yield* reason("hollow")).message, "the schema \"hollow\" has no store (there are stores in: ")
    }))

  it.effect("a client that encodes or decodes the store's types in its own way is an InvalidRequest, also that of a replica", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const types = PgTypes.makeRegistry()
      types.register<number>(PgTypes.OID.int8, {
        encode: (value) => PgTypes.encode(BigInt(value), PgTypes.OID.int8),
        decode: (bytes) => Result.map(PgTypes.decode(bytes, PgTypes.OID.int8, 1), Number)
      })
      types.register<unknown>(PgTypes.OID.jsonb, {
        encode: () => PgTypes.encode({}, PgTypes.OID.jsonb),
        decode: () => Result.succeed({})
      })
      // What the store does not use may be replaced.
      const unused = PgTypes.makeRegistry()
      unused.register(PgTypes.OID.numeric, {
        encode: (value: number) => PgTypes.encode(`${value}`, PgTypes.OID.numeric),
        decode: (bytes) => Result.map(PgTypes.decode(bytes, PgTypes.OID.numeric, 1), Number)
      })
      const strange = PgClient.layer({ url: Redacted.make(url), types })
      const usual = PgClient.layer({ url: Redacted.make(url), types: unused })
      const opened = (database: typeof usual, options?: PostgresLayer.Options) =>
        Layer.build(Layer.provide(PostgresLayer.layer(options), database))
      for (const layer of [opened(strange), opened(usual, { replica: strange })]) {
        const error = yield* Effect.flip(layer)
        assert.strictEqual(error.reason._tag, "InvalidRequest")
        assert.include(error.message, "int8, jsonb")
      }
      yield* opened(usual, { replica: usual })
    }))

  it.effect("a store is opened by a configured URL, and two schemas are two stores", () =>
    Effect.gen(function*() {
      const { url } = yield* PostgresServer.PostgresServer
      const configured = KvUrl.layerConfig(Config.String("KV_URL"), { postgres: PostgresLayer.fromUrl }).pipe(
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ KV_URL: url })))
      )
      const kv = Context.get(yield* Layer.build(configured), Kv.Kv)
      yield* kv.put("which", "default")
      const other = PostgresLayer.layerConfig({ schema: Config.String("KV_SCHEMA") }).pipe(
        Layer.provide(PgClient.layer({ url: Redacted.make(url) })),
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown({ KV_SCHEMA: "other" })))
      )
      const second = Context.get(yield* Layer.build(other), Kv.Kv)
      assert.deepStrictEqual(yield* second.get("which"), Option.none())
    }))

  it.effect("calls made while the server restarts succeed within their deadline", () =>
    Effect.gen(function*() {
      const server = yield* PostgresServer.PostgresServer
      const kv = yield* open(server.url)
      yield* kv.put("restarted", "0")
      yield* server.kill
      const calls = yield* Effect.forkChild(
        Deadline.within(Effect.all([kv.get("restarted"), kv.put("restarted", "1")], { concurrency: 2 }), "20 seconds")
      )
      yield* server.start
      yield* Fiber.join(calls)
      assert.strictEqual(Option.getOrThrow(yield* kv.getEntry("restarted")).version, 2)
    }))
})
