/**
 * The server's side of a client: the process that executes its statements, and the locks that they wait for.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import { PostgresServer, TcpProxy } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import type { Fragment } from "effect/sql/Statement"
import * as Fs from "node:fs"
import { withoutBackground } from "./background.ts"
import { connect } from "./store.ts"
import { until, untilTrue } from "./until.ts"

/** A client of the server itself, to observe it and to act on it. */
export const administrator = Effect.flatMap(
  PostgresServer.PostgresServer,
  ({ url }) => PgClient.make({ url: Redacted.make(url), maxConnections: 4 })
).pipe(Effect.provide(Reactivity.layer))

export interface Options extends PostgresLayer.Options {
  /** The most connections. Default: 1. */
  readonly connections?: number | undefined
  /** Settings of its sessions. */
  readonly session?: Readonly<Record<string, string>> | undefined
  /** Whether it makes its background statements, as a client with watches must. Default: false. */
  readonly background?: boolean | undefined
}

/**
 * A client with one connection, behind a proxy. It has written already and makes no statement by itself, so the next chunk that
 * it sends is one statement, and that of the test.
 */
export const behindProxy = Effect.fnUntraced(function*({
  connections = 1,
  session = {},
  background = false,
  ...options
}: Options = {}) {
  const server = yield* PostgresServer.PostgresServer
  const proxy = yield* TcpProxy.make({ target: server.port })
  const pg = yield* PgClient.make({
    url: Redacted.make(`postgres://postgres@127.0.0.1:${proxy.port}/postgres`),
    maxConnections: connections,
    startupParameters: session
  }).pipe(Effect.provide(Reactivity.layer))
  const own = background ? pg : withoutBackground(pg, options.schema)
  const context = yield* Effect.provideService(connect({ batching: false, ...options }), PgClient.PgClient, own)
  const kv = Context.get(context, Kv.Kv)
  yield* kv.put("warm", "up")
  const [row] = yield* pg<{ readonly pid: number }>`select pg_backend_pid() as pid`
  return { kv, pg, proxy, pid: row!.pid, store: Context.get(context, PostgresStore.PostgresStore) }
})

/** Makes a write of a new key, whose response is lost after the server has committed it. */
export const losingResponse = Effect.fnUntraced(function*<A, E>(
  proxy: TcpProxy.TcpProxy,
  sql: PgClient.PgClient,
  key: string,
  write: Effect.Effect<A, E>
) {
  yield* proxy.dropResponses
  const fiber = yield* Effect.forkChild(write)
  yield* untilRows(
    sql,
    `the write of ${key}`,
    sql`select from effect_kv.entry where key = ${new TextEncoder().encode(key)}`
  )
  yield* proxy.heal
  return yield* Fiber.join(fiber)
})

/** Holds what the statement locks, as another writer does, until the returned effect runs or the scope closes. */
export const holding = Effect.fnUntraced(function*(sql: PgClient.PgClient, locks: string) {
  const held = yield* Deferred.make<void>()
  const release = yield* Deferred.make<void>()
  const transaction = sql.withTransaction(
    sql.unsafe(locks).pipe(Effect.andThen(Deferred.succeed(held, undefined)), Effect.andThen(Deferred.await(release)))
  )
  const fiber = yield* Effect.forkScoped(transaction)
  yield* Effect.raceFirst(Deferred.await(held), Effect.asVoid(Fiber.join(fiber)))
  return Effect.andThen(Deferred.succeed(release, undefined), Effect.asVoid(Fiber.join(fiber)))
})

/** What the processes of the server do. */
const processes = (sql: PgClient.PgClient) =>
  sql`select pid, application_name, state, wait_event_type, wait_event, left(query, 200) as query
    from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`

/** Waits until a query returns rows. */
export const untilRows = (
  sql: PgClient.PgClient,
  awaited: string,
  rows: Effect.Effect<ReadonlyArray<unknown>, unknown>
) => Effect.asVoid(until(awaited, rows, (found) => found.length > 0, { details: processes(sql) }))

/** A put and a write of one key have functions of their own. */
const likes = (name: string) =>
  `{${(name === "write" ? ["write", "write_entry", "put_entries"] : [name]).map((each) => `%.${each}(%`).join(",")}}`

/** Waits until so many calls of a function of the schema wait for a lock. */
export const untilBlocked = (sql: PgClient.PgClient, name: "write" | "resolve" | "revoke_lease", count = 1) =>
  untilRows(
    sql,
    `${count} calls of ${name} that wait for a lock`,
    sql`
    select count(*) from pg_stat_activity
    where wait_event_type = 'Lock' and query like any(${likes(name)}::text[]) having count(*) >= ${count}`
  )

/** Waits until a process of the server is as described by a condition on `pg_stat_activity`. */
export const untilProcess = (sql: PgClient.PgClient, condition: Fragment) =>
  untilRows(
    sql,
    "a process like this of the server",
    sql`select pid from pg_stat_activity where ${condition}`
  )

/** When a process of the server received its last statement. */
export const lastStatement = Effect.fnUntraced(function*(sql: PgClient.PgClient, pid: number) {
  const [row] = yield* sql<{ readonly at: string }>`
    select query_start::text as at from pg_stat_activity where pid = ${pid}`
  return row!.at
})

/** Waits until a process of the server has executed a later statement, or has ended. */
export const untilExecuted = (sql: PgClient.PgClient, pid: number, last: string) =>
  untilRows(
    sql,
    `the end of a later statement of process ${pid} than that of ${last}`,
    sql`
    select where not exists (
      select from pg_stat_activity where pid = ${pid} and (state = 'active' or query_start <= ${last}::timestamptz)
    )`
  )

const isFrozen = (pid: number) =>
  Effect.sync(() => Fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.startsWith("T") === true)

/** Stops a process of the server (SIGSTOP) until the returned effect runs or the scope closes. */
export const freeze = (pid: number) => {
  const thaw = Effect.sync(() => void process.kill(pid, "SIGCONT"))
  return Effect.acquireRelease(Effect.sync(() => void process.kill(pid, "SIGSTOP")), () => Effect.ignoreCause(thaw))
    .pipe(
      Effect.andThen(untilTrue(`process ${pid} to be stopped`, isFrozen(pid))),
      Effect.as(thaw)
    )
}
