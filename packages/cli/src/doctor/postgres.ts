/**
 * What `doctor` finds on Postgres: whether the server responds and is the primary, what is wrong with its settings and the
 * schema, whether notifications arrive, and whether a lock works.
 */
import type { Kv } from "@effect-kv/core/Kv"
import * as PostgresLayer from "@effect-kv/postgres/PostgresLayer"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { SqlError } from "effect/sql/SqlError"
import { defaultTimeout, type Settings } from "../connection.ts"
import { type Finding, ok, problem } from "./finding.ts"
import * as locking from "./locking.ts"
import * as notifications from "./notifications.ts"
import * as postgresSchema from "./postgresSchema.ts"
import * as postgresSettings from "./postgresSettings.ts"
import * as reachingPostgres from "./reachingPostgres.ts"

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
  { options: { deadline = defaultTimeout }, prefix, schema = postgresSchema.defaultSchema, shown }: Settings
): Effect.fn.Return<ReadonlyArray<Finding>, never, PgClient.PgClient | Kv> {
  const sql = yield* PgClient.PgClient
  const within = <A>(effect: Effect.Effect<A, SqlError>) => Effect.result(Effect.timeoutOption(effect, deadline))
  const [took, asked] = yield* Effect.timed(within(postgresSettings.read(sql)))
  if (Result.isFailure(asked)) return [reachingPostgres.finding(shown, asked.failure)]
  if (asked.success._tag === "None") return [silent(shown)]
  const server = asked.success.value
  const found: Array<Finding> = [
    ok(
      "endpoint",
      `${shown} responds after ${Math.round(Duration.toMillis(took))} ms: PostgreSQL ${server.shown_version}`
    )
  ]
  if (server.is_standby) {
    return [
      ...found,
      problem("standby", `${shown} is a standby, which takes no writes`, "Name the primary in the URL.")
    ]
  }
  found.push(...postgresSettings.findings(server))
  const facts = yield* within(postgresSchema.facts(sql, schema))
  if (Result.isFailure(facts)) return [...found, reachingPostgres.finding(shown, facts.failure)]
  if (facts.success._tag === "None") return [...found, silent(shown)]
  found.push(yield* notifications.finding(sql, schema))
  const ofSchema = postgresSchema.finding(facts.success.value)
  found.push(ofSchema)
  if (ofSchema.severity !== "Ok") return found
  const isRejected = found.some(({ severity }) => severity === "Problem")
  return [...found, ...yield* locking.findings({ ...terms, prefix, isRejected })]
})

/**
 * Why a command could not use the store, in the words of `doctor`, if the URL or the schema is the reason; `undefined` if
 * neither is.
 */
export const misconfiguration = (
  { options: { deadline = defaultTimeout }, schema = postgresSchema.defaultSchema, shown, url }: Settings
): Effect.Effect<string | undefined> =>
  PgClient.PgClient.pipe(
    Effect.flatMap((sql) => postgresSchema.facts(sql, schema)),
    Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })),
    Effect.match({
      onFailure: (error) => reachingPostgres.finding(shown, error),
      onSuccess: postgresSchema.finding
    }),
    Effect.timeoutOption(deadline),
    Effect.map(Option.getOrUndefined),
    Effect.map((found) =>
      found !== undefined && misconfigurations.has(found.code) ? `${found.message}. ${found.advice}` : undefined
    )
  )

const misconfigurations: ReadonlySet<string> = new Set([
  "configuration",
  "no-database",
  "no-schema",
  "foreign-schema",
  "old-schema",
  "new-schema"
])

const silent = (shown: string): Finding =>
  problem(
    "endpoint-unreachable",
    `${shown} does not respond in time`,
    "Is the address right? Does a firewall or a network policy drop the packets?"
  )

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
