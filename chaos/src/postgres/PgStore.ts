/**
 * A Postgres server as the store under test. Plain SQL on connections of the harness reads and changes it.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresSchema from "@effect-kv/postgres/PostgresSchema"
import * as PostgresStore from "@effect-kv/postgres/PostgresStore"
import { PostgresServer } from "@effect-kv/test-suite/verification"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import type { Outcome } from "../AppliedFault.ts"
import { deadlineOf } from "../deadlines.ts"
import type { Fault } from "../Fault.ts"
import { type ClientOptions, type Opened, type Store, StoreError } from "../Store.ts"
import * as invoices from "../work/invoices.ts"
import * as locks from "../work/locks.ts"
import { record } from "./LogRecording.ts"
import * as faults from "./serverFaults.ts"
import * as sqlOf from "./sql.ts"

export interface Options {
  /** Changes the script of the schema. For tests of the harness. */
  readonly mutateScript?: ((script: string) => string) | undefined
}

/** So few that clients compact all the time. */
const history = { revisions: 3000 }

export const make = Effect.fnUntraced(function*(
  { mutateScript = (script) => script }: Options
): Effect.fn.Return<Store, Error, Scope> {
  const server = yield* PostgresServer.make()
  const sql = yield* sqlOf.make(server.url)
  const to: faults.Server = { server, sql }
  yield* sql.query(mutateScript(PostgresSchema.script()))
  yield* sql.query(invoices.createTable)
  yield* sql.query("create table probe (the_only boolean primary key, times bigint not null)")
  const version = yield* sql.query<{ readonly version: string }>("select current_setting('server_version') as version")
  const one = <A>(text: string, params: ReadonlyArray<unknown> = []) =>
    Effect.map(sql.query<{ readonly it: A }>(text, params), ([row]) => row!.it)
  const store: Store = {
    backend: "postgres",
    title: `postgres ${version[0]!.version}`,
    endpoints: [`postgres://127.0.0.1:${server.port}`],
    openClient,
    revision: one("select revision as it from effect_kv.store"),
    record: (first) => record(sql, first),
    keys: (prefix) =>
      Effect.map(
        sql.query<{ readonly key: string }>("select convert_from(key, 'UTF8') as key from effect_kv.entry order by 1"),
        (rows) => rows.map(({ key }) => key).filter((key) => key.startsWith(prefix))
      ),
    // Clients end leases. Those of a client that has gone end when the next one writes.
    leases: Effect.andThen(
      sql.query("select effect_kv.sweep()"),
      Effect.map(
        sql.query<{ readonly id: bigint }>("select id from effect_kv.lease"),
        (rows) => rows.map(({ id }) => id)
      )
    ),
    revoke: (lease) =>
      Effect.flatMap(
        sql.once<{ readonly it: boolean }>("select effect_kv.revoke_lease($1) as it", [lease]),
        ([row]) => row!.it ? Effect.void : Effect.fail(new StoreError({ message: `the lease ${lease} has ended` }))
      ),
    oldest: (prefix) =>
      Effect.map(
        sql.query<{ readonly created: bigint; readonly lease: bigint; readonly value: string }>(
          `select create_revision as created, lease, convert_from(value, 'UTF8') as value from effect_kv.entry
          where starts_with(convert_from(key, 'UTF8'), $1) and lease <> 0 order by create_revision, key limit 1`,
          [prefix]
        ),
        ([row]) => row === undefined ? undefined : { createRevision: row.created, lease: row.lease, value: row.value }
      ),
    compact: (revision) => compact(sql, revision),
    compacted: one("select compacted as it from effect_kv.store"),
    watches: Effect.map(
      one<bigint>(`select count(*) as it from pg_stat_activity where ${sqlOf.ofClients} and query ilike 'listen %'`),
      Number
    ),
    watchesOf: (clients) => clients,
    left: left(sql),
    broken: (prefix, notes) =>
      Effect.map(
        sql.query<invoices.Row>("select number, token, mark from invoice where prefix = $1 order by id", [prefix]),
        (rows) => invoices.find(rows, notes)
      ),
    probes: [
      Effect.ignore(
        sql.once("insert into probe values (true, 1) on conflict (the_only) do update set times = probe.times + 1")
      )
    ],
    breakServers: (fault) => breakServer(to, fault),
    evictable: (prefix) => [locks.lockNames(prefix)[0], invoices.billingLock(prefix)],
    isRequest
  }
  return store
})

const openClient = ({ batching, links, name }: ClientOptions) =>
  Effect.suspend(() =>
    Layer.build(Layer.fresh(PostgresLayer.fromUrl(
      `postgres://postgres@127.0.0.1:${links[0]!.port}/postgres?application_name=${name}`,
      { deadline: deadlineOf(name), history, ...(batching ? {} : { batching: false }) }
    )))
  ).pipe(Effect.map((context): Opened => {
    const kv = Context.get(context, Kv.Kv)
    return {
      kv,
      application: {
        kv,
        sql: Context.get(context, PgClient.PgClient),
        store: Context.get(context, PostgresStore.PostgresStore)
      }
    }
  }))

/**
 * Compacts, and lets the time pass that watches that are open have to read what they have not read yet: ten seconds, twice.
 * Then it deletes the history.
 */
const compact = Effect.fnUntraced(function*({ query }: sqlOf.Sql, revision: bigint) {
  yield* query("select * from effect_kv.compact($1)", [revision])
  for (let i = 0; i < 2; i++) {
    yield* query("update effect_kv.store set rotated_at = rotated_at - interval '10 seconds'")
    yield* query("select effect_kv.rotate()")
  }
  yield* Effect.repeat(query<{ readonly more: boolean }>("select effect_kv.clean(10000) as more"), {
    until: ([row]) => !row!.more
  })
})

/** Connections and files that are left. */
const left = ({ query }: sqlOf.Sql) =>
  Effect.map(
    Effect.all([
      query<{ readonly name: string; readonly state: string | null; readonly text: string }>(
        `select application_name as name, state, left(query, 60) as text from pg_stat_activity where ${sqlOf.ofClients}`
      ),
      query<{ readonly name: string }>("select name from pg_ls_tmpdir()")
    ]),
    ([connections, files]) => [
      ...connections.map(({ name, state, text }) => `a connection of ${name}, ${state ?? "starting"}: ${text}`),
      ...files.map(({ name }) => `the temporary file ${name}`)
    ]
  )

const breakServer = (to: faults.Server, fault: Fault): Effect.Effect<Outcome | void, Error> => {
  switch (fault.kind) {
    case "kill-postmaster":
      return faults.killPostmaster(to, fault)
    case "kill-backend":
      return faults.killBackend(to)
    case "outage":
      return faults.outage(to, fault)
    case "stop-fast":
      return faults.stopFast(to, fault)
    case "stop-immediate":
      return faults.stopImmediate(to, fault)
    case "pause-server":
      return faults.pauseServer(to, fault)
    case "pause-backends":
      return faults.pauseBackends(to, fault)
    case "terminate-backends":
      return faults.terminateBackends(to, fault)
    case "cancel-statements":
      return faults.cancelStatements(to, fault)
    case "lock-store":
      return faults.lockStore(to, fault)
    case "vacuum":
      return faults.vacuum(to)
    default:
      return Effect.die(new Error(`Postgres has no fault ${fault.kind}`))
  }
}

/** A chunk that begins with the message Parse or Bind. Others begin, end or listen. */
const isRequest = (chunk: Uint8Array): boolean => chunk[0] === 0x50 || chunk[0] === 0x42
