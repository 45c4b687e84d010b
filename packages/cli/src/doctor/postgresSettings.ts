/**
 * What is to be said of the settings of a Postgres server: its version, and what delays, loses or ends the work of a store.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { type Finding, problem, warning } from "./finding.ts"

/** What a session of the role sees. */
export interface Server {
  /** As `server_version_num` has it. */
  readonly version: number
  readonly shown_version: string
  readonly is_standby: boolean
  readonly is_read_only: boolean
  /** By name, in the base unit of each: milliseconds, or seconds for TCP. A setting that the version lacks is missing. */
  readonly settings: Readonly<Record<string, string>>
  /** How many replicas stream from the server. */
  readonly replicas: number
  /** How many more connections the server, the database and the role allow. */
  readonly free_connections: number
}

const names = [
  "autovacuum",
  "default_transaction_isolation",
  "fsync",
  "idle_session_timeout",
  "statement_timeout",
  "synchronous_commit",
  "synchronous_standby_names",
  "tcp_keepalives_count",
  "tcp_keepalives_idle",
  "tcp_keepalives_interval",
  "transaction_timeout"
]

/** One statement, of what every role may read. */
export const read = (sql: PgClient.PgClient): Effect.Effect<Server, SqlError> =>
  Effect.map(
    sql<Server>`
      select current_setting('server_version_num')::int as version, current_setting('server_version') as shown_version,
        pg_is_in_recovery() as is_standby, current_setting('transaction_read_only') = 'on' as is_read_only,
        (select json_object_agg(s.name, s.setting) from pg_catalog.pg_settings s where s.name = any(${names}::text[]))
          as settings,
        (
          select count(*)::int from pg_catalog.pg_stat_replication r
          -- A subscriber of changes is no replica.
          where not exists (
            select from pg_catalog.pg_replication_slots s where s.active_pid = r.pid and s.slot_type = 'logical'
          )
        ) as replicas,
        (
          select least(
            current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
              - coalesce(current_setting('reserved_connections', true)::int, 0)
              - (select count(*) from pg_catalog.pg_stat_activity a where a.datid is not null),
            case when r.rolconnlimit >= 0 then r.rolconnlimit
              - (select count(*) from pg_catalog.pg_stat_activity a where a.usesysid = r.oid) end,
            case when d.datconnlimit >= 0 then d.datconnlimit
              - (select count(*) from pg_catalog.pg_stat_activity a where a.datid = d.oid) end
          )::int
          from pg_catalog.pg_roles r, pg_catalog.pg_database d
          where r.rolname = current_user and d.datname = current_database()
        ) as free_connections`,
    (rows) => rows[0]!
  )

/** What is wrong with the settings. */
export const findings = (server: Server): ReadonlyArray<Finding> => [
  ...version(server),
  ...readOnly(server),
  ...durability(server),
  ...replication(server),
  ...deadClients(server),
  ...statementTimes(server),
  ...idleTimes(server),
  ...upkeep(server),
  ...connections(server)
]

const version = ({ shown_version, version }: Server): ReadonlyArray<Finding> =>
  version >= 150_000 ? [] : [
    problem(
      "unsupported-version",
      `the server is PostgreSQL ${shown_version}, which effect-kv does not support`,
      "Upgrade it to PostgreSQL 15 or later."
    )
  ]

const readOnly = ({ is_read_only, is_standby }: Server): ReadonlyArray<Finding> =>
  is_standby || !is_read_only ? [] : [
    problem(
      "read-only",
      "transactions are read-only: default_transaction_read_only is on",
      "Switch it off, for the server or for the role of the programs: alter role ... set default_transaction_read_only = off."
    )
  ]

const durability = ({ settings: { fsync } }: Server): ReadonlyArray<Finding> =>
  fsync !== "off" ? [] : [
    warning(
      "not-durable",
      "fsync is off: a crash of the server may lose locks and writes",
      "Set fsync = on in postgresql.conf, and reload it."
    )
  ]

/** Whether a failover may lose confirmed writes, or writes wait for a replica that is not there. */
const replication = ({ replicas, settings }: Server): ReadonlyArray<Finding> => {
  const { synchronous_commit, synchronous_standby_names } = settings
  const hasNames = synchronous_standby_names !== ""
  const waits = synchronous_commit !== "off" && synchronous_commit !== "local"
  if (hasNames && waits) {
    return replicas > 0 ? [] : [
      problem(
        "no-synchronous-standby",
        `synchronous_standby_names is set, and no replica streams: every write waits for one`,
        "Start the replica, or empty synchronous_standby_names as long as there is none."
      )
    ]
  }
  if (replicas === 0) return []
  return [
    warning(
      "asynchronous-replicas",
      hasNames
        ? `synchronous_commit is ${synchronous_commit}: a failover may lose the last writes, and with them locks`
        : "no replica is synchronous: a failover may lose the last writes, and with them locks",
      "Clients notice it. To lose none: synchronous_standby_names, and synchronous_commit = on for the role of the programs."
    )
  ]
}

/** The longest time, in seconds, for which the other writers should wait for a client whose host has died. */
const longestWait = 60

/** Whether a client that dies in the middle of a write keeps the others waiting. */
const deadClients = ({ settings, version }: Server): ReadonlyArray<Finding> => {
  const seconds = (name: string): number => Number(settings[name] ?? 0)
  const timeout = seconds("transaction_timeout") / 1000
  const keepAlive = seconds("tcp_keepalives_idle") +
    seconds("tcp_keepalives_interval") * seconds("tcp_keepalives_count")
  // Without a time-out of the server, each write has one of 15 seconds: on version 17 and later.
  const [wait, advice] = version >= 170_000
    ? [timeout, "Set transaction_timeout = 0 or to less than a minute for the role of the programs."]
    : [
      keepAlive,
      "Set tcp_keepalives_idle = 10, tcp_keepalives_interval = 3 and tcp_keepalives_count = 3, or upgrade to " +
      "PostgreSQL 17."
    ]
  return wait <= longestWait ? [] : [
    warning(
      "dead-clients",
      `if the host of a client dies in the middle of a write, other writers may wait for ${Math.round(wait)} s`,
      advice
    )
  ]
}

/** The least time, in milliseconds, that a statement needs: to end leases that are due takes up to a second. */
const leastTime = 2000

const statementTimes = ({ settings }: Server): ReadonlyArray<Finding> =>
  ["statement_timeout", "transaction_timeout"].flatMap((name) => {
    const millis = Number(settings[name] ?? 0)
    return millis === 0 || millis >= leastTime ? [] : [
      warning(
        "short-timeout",
        `${name} is ${millis} ms: ending many leases, cleaning the history and upgrading the schema take longer`,
        `Set it to ${
          leastTime / 1000
        } s or more, at least for the role of the programs: alter role ... set ${name} = '10s'.`
      )
    ]
  })

/** How long, in milliseconds, a connection that listens should live. */
const leastIdle = 60_000

const idleTimes = ({ settings }: Server): ReadonlyArray<Finding> => {
  const millis = Number(settings["idle_session_timeout"] ?? 0)
  return millis === 0 || millis >= leastIdle ? [] : [
    warning(
      "short-timeout",
      `idle_session_timeout is ${millis} ms: it ends the connection that listens for notifications, and an event after ` +
        "that is late",
      "Set it to a minute or more, at least for the role of the programs: alter role ... set idle_session_timeout = 0."
    )
  ]
}

const upkeep = ({ settings }: Server): ReadonlyArray<Finding> => [
  ...settings["autovacuum"] !== "off" ? [] : [
    warning(
      "no-autovacuum",
      "autovacuum is off: the tables of the store grow, and calls become slower",
      "Set autovacuum = on in postgresql.conf, and reload it."
    )
  ],
  ...settings["default_transaction_isolation"] === "read committed" ? [] : [
    warning(
      "isolation",
      `default_transaction_isolation is ${
        settings["default_transaction_isolation"]
      }: concurrent writes fail and are repeated`,
      "Use read committed for the role of the programs, and set the isolation in the transactions that need another one."
    )
  ]
]

/** How many connections the pool of one program has by default. */
const pool = 10

const connections = ({ free_connections }: Server): ReadonlyArray<Finding> =>
  free_connections >= pool ? [] : [
    warning(
      "few-connections",
      `${
        Math.max(0, free_connections)
      } more connections are free for this role, and a PgClient opens ${pool} by default`,
      "Raise max_connections or the limit of the role or database, or give programs smaller pools (maxConnections)."
    )
  ]
