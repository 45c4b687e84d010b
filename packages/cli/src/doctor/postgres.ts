/**
 * What `doctor` finds on Postgres: whether the server responds and is the primary, the version of the schema, settings
 * that may lose locks, and whether a lock works.
 */
import type { Kv } from "@effect-kv/core/Kv"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PostgresSchema from "@effect-kv/postgres/PostgresSchema"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import { defaultTimeout, type Settings } from "../connection.ts"
import { type Finding, ok, problem, warning } from "./finding.ts"
import * as locking from "./locking.ts"

const defaultSchema = "effect_kv"

interface Server {
  readonly server_version: string
  readonly is_standby: boolean
  readonly fsync: string
  readonly synchronous_commit: string
  /** Whether the schema has a function that reports its version. */
  readonly has_version: boolean
}

export const findings = (settings: Settings): Effect.Effect<ReadonlyArray<Finding>> => {
  const { options: { deadline }, prefix, schema, url } = settings
  // An examination does not upgrade the store of programs that run.
  const layer = PostgresLayer.fromUrl(url, { deadline, prefix, schema, migrate: false })
  return Effect.flatMap(Effect.result(Effect.scoped(Layer.build(layer))), (built) =>
    Result.isFailure(built)
      ? Effect.succeed([
        problem("configuration", built.failure.reason.message, "Correct the URL and the flags: see 'effect-kv --help'.")
      ])
      : Effect.provide(examine(settings), Layer.orDie(layer)))
}

const examine = Effect.fnUntraced(function*(
  { options: { deadline = defaultTimeout }, prefix, schema = defaultSchema, shown }: Settings
): Effect.fn.Return<ReadonlyArray<Finding>, never, PgClient.PgClient | Kv> {
  const sql = yield* PgClient.PgClient
  const [took, asked] = yield* Effect.timed(Effect.result(Effect.timeoutOption(
    sql<Server>`
      select current_setting('server_version') as server_version, pg_is_in_recovery() as is_standby,
        current_setting('fsync') as fsync, current_setting('synchronous_commit') as synchronous_commit,
        exists (
          select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
          where n.nspname = ${schema} and p.proname = 'schema_version'
        ) as has_version`,
    deadline
  )))
  if (Result.isFailure(asked)) return [unreachable(shown, asked.failure)]
  if (asked.success._tag === "None") return [silent(shown)]
  const server = asked.success.value[0]!
  const found: Array<Finding> = [
    ok(
      "endpoint",
      `${shown} responds after ${Math.round(Duration.toMillis(took))} ms: PostgreSQL ${server.server_version}`
    )
  ]
  if (server.is_standby) {
    return [
      ...found,
      problem("standby", `${shown} is a standby, which takes no writes`, "Name the primary in the URL.")
    ]
  }
  found.push(...durability(server))
  if (!server.has_version) {
    return [
      ...found,
      warning(
        "no-schema",
        `the database has no schema ${JSON.stringify(schema)} of a store: no program has used it yet`,
        "If programs use another one, name it with --schema. The first program, or command, creates it, if its role may. " +
          "Otherwise the owner of the database runs the text of PostgresSchema.script()."
      )
    ]
  }
  const version = yield* Effect.option(sql.unsafe<{ readonly version: number }>(
    `select ${identifier(schema)}.schema_version() as version`
  ))
  const present = version._tag === "Some" ? version.value[0]!.version : undefined
  if (present !== undefined && present < PostgresSchema.version) {
    return [
      ...found,
      warning(
        "old-schema",
        `the schema ${JSON.stringify(schema)} has version ${present}; this program needs ${PostgresSchema.version}`,
        "Programs of the version before work. Any other command of this one upgrades the schema, if its role may."
      )
    ]
  }
  if (present !== undefined) found.push(ok("schema", `the schema ${JSON.stringify(schema)} has version ${present}`))
  const locks = yield* locking.findings({ ...terms, prefix, isFull: false })
  return [...found, ...locks]
})

const identifier = (name: string): string => `"${name.replaceAll("\"", "\"\"")}"`

const durability = ({ fsync, synchronous_commit }: Server): ReadonlyArray<Finding> =>
  fsync === "off" || synchronous_commit === "off"
    ? [
      warning(
        "not-durable",
        `${fsync === "off" ? "fsync" : "synchronous_commit"} is off: a crash of the server may lose locks and writes`,
        fsync === "off"
          ? "Set fsync = on in postgresql.conf, and reload it."
          : "Set it to on, at least for the role of the programs: alter role ... set synchronous_commit = on."
      )
    ]
    : []

const silent = (shown: string): Finding =>
  problem(
    "endpoint-unreachable",
    `${shown} does not respond in time`,
    "Is the address right? Does a firewall or a network policy drop the packets?"
  )

/** Why the server could not be used. A code of five characters is the server's own. */
const unreachable = (shown: string, { reason }: SqlError): Finding => {
  const cause: unknown = reason.cause
  const code = typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""
  const message = cause instanceof Error ? cause.message : reason.message ?? ""
  if (reason._tag === "AuthenticationError" || code.startsWith("28")) {
    return problem(
      "credentials-wrong",
      `${shown} rejects the user, the password, or connections from this machine: ${message}`,
      "Correct user and password in the URL. An administrator sees in pg_hba.conf who may connect from where."
    )
  }
  if (code === "3D000") {
    return problem("no-database", `${shown} has no such database: ${message}`, "Correct the end of the URL: /database.")
  }
  return problem(
    code === "ECONNREFUSED" ? "connection-refused" : "endpoint-unreachable",
    `${shown} cannot be connected to: ${message}`,
    "Does the server run, and listen at this address and port (listen_addresses; 5432)? If it demands TLS, add " +
      "?sslmode=require to the URL."
  )
}

const terms: locking.Terms = {
  readable: ok("read", "the store can be read"),
  failed: (step, error, where) => {
    switch (error._tag === "KvError" ? error.reason._tag : error._tag) {
      case "PermissionDenied":
        return problem(
          "permission-denied",
          `to ${step} ${where} failed: ${error.message}`,
          "Let the owner of the schema grant the role what the message names."
        )
      case "QuotaExceeded":
        return problem("quota-exceeded", `the server's disk is full: ${error.message}`, "Free space on the server.")
      default:
        return problem("failed", `to ${step} ${where} failed: ${error.message}`, "The message is the store's.")
    }
  },
  slowness: "slow disks of the server, for long transactions and waits for synchronous replicas, and for a slow network"
}
