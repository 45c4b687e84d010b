/**
 * Layers that provide `Kv` from a Postgres database, through the `PgClient` that the application already has.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as Check from "@effect-kv/core/Check"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as Tracing from "@effect-kv/core/Tracing"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import * as backend from "./internal/backend.ts"
import * as codecs from "./internal/codecs.ts"
import * as connection from "./internal/connection.ts"
import * as health from "./internal/health.ts"
import type { BatchingOptions, HistoryOptions, Options } from "./internal/options.ts"
import * as settings from "./internal/options.ts"
import * as realTime from "./internal/realTime.ts"
import * as replicas from "./internal/replica.ts"
import * as serverAddress from "./internal/serverAddress.ts"
import * as sqlErrors from "./internal/sqlErrors.ts"
import * as store from "./internal/store.ts"
import * as urls from "./internal/urls.ts"
import { PostgresStore } from "./PostgresStore.ts"

export type { BatchingOptions, HistoryOptions, Options }

/**
 * Provides `Kv` from the database of the application's `PgClient`.
 *
 * **Details**
 *
 * The layer does not connect. The first call creates or upgrades the schema. If the schema is too new for this version of
 * the package, or another program's, calls fail with `InvalidRequest`. Calls use connections of the client's pool, each for
 * one statement, never the transaction of the caller; watches share one more connection, which listens. An invalid
 * option fails with `InvalidRequest`.
 *
 * @example
 * ```ts norun
 * import { DistLock } from "@effect-kv/core"
 * import { PostgresLayer } from "@effect-kv/postgres"
 * import { PgClient } from "@effect/sql-pg"
 * import { Effect, Layer, Redacted } from "effect"
 *
 * const Database = PgClient.layer({ url: Redacted.make("postgres://localhost/app") })
 * const Live = Layer.provideMerge(PostgresLayer.layer(), Database)
 *
 * const program = Effect.log("only one at a time").pipe(DistLock.withDistLock("nightly"), Effect.provide(Live))
 * ```
 *
 * @since 0.1.0
 */
export const layer = (options?: Options): Layer.Layer<Kv.Kv | PostgresStore, KvError.KvError, PgClient.PgClient> =>
  Layer.effectContext(make(options ?? {}))

/**
 * {@link layer} with options from the configuration.
 *
 * @example
 * ```ts norun
 * import { PostgresLayer } from "@effect-kv/postgres"
 * import { Config } from "effect"
 *
 * const Live = PostgresLayer.layerConfig({ schema: Config.String("KV_SCHEMA"), prefix: Config.String("KV_PREFIX") })
 * ```
 *
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<Options>
): Layer.Layer<Kv.Kv | PostgresStore, KvError.KvError | Config.ConfigError, PgClient.PgClient> =>
  Layer.effectContext(Effect.flatMap(Config.unwrap(options), make))

/**
 * Provides `Kv` from the database that a URL names, with a `PgClient` of its own.
 *
 * **When to use**
 *
 * With `KvUrl`, for the schemes `postgres:` and `postgresql:`. An application that has a `PgClient` uses {@link layer}.
 *
 * **Details**
 *
 * The URL is that of libpq: `postgres://user:password@host:port/database?sslmode=require`. The client has at most 10
 * connections, which TCP keep-alive probes after 10 idle seconds; it is provided, too. An invalid URL fails with `InvalidRequest`, whose message does not repeat it.
 *
 * @example
 * ```ts norun
 * import { KvUrl } from "@effect-kv/core"
 * import { MemoryLayer } from "@effect-kv/memory"
 * import { PostgresLayer } from "@effect-kv/postgres"
 * import { Config } from "effect"
 *
 * const Live = KvUrl.layerConfig(Config.String("KV_URL"), {
 *   mem: MemoryLayer.fromUrl,
 *   postgres: PostgresLayer.fromUrl,
 *   postgresql: PostgresLayer.fromUrl
 * })
 * ```
 *
 * @since 0.1.0
 */
export const fromUrl = (
  url: string,
  options?: Options
): Layer.Layer<Kv.Kv | PostgresStore | PgClient.PgClient | SqlClient.SqlClient, KvError.KvError> => {
  const problem = urls.invalid(url)
  if (problem !== undefined) return Layer.effectContext(Check.orFail(problem).pipe(Effect.andThen(Effect.never)))
  const database = Layer.catchCause(
    PgClient.layer({ url: Redacted.make(url), keepAlive }),
    (cause) => Layer.effectContext(KvError.fail(urls.reasonOf(cause)))
  )
  return Layer.provideMerge(layer(options), database)
}

/** After how long an idle connection is probed, so that one that is silent is found before it is used. */
const keepAlive = "10 seconds"

const make = (
  options: Options
): Effect.Effect<Context.Context<Kv.Kv | PostgresStore>, KvError.KvError, Scope.Scope | PgClient.PgClient> =>
  Effect.flatMap(settings.check(options), (checked) => realTime.provide(build(checked)))

const build = Effect.fnUntraced(function*(
  checked: settings.Settings
): Effect.fn.Return<Context.Context<Kv.Kv | PostgresStore>, KvError.KvError, Scope.Scope | PgClient.PgClient> {
  const pg = yield* PgClient.PgClient
  yield* codecs.check(pg)
  const to = yield* connection.make(pg, checked)
  const kv = yield* backend.make(to, yield* replicaOf(to, checked))
  const labels = labelsOf(checked, serverAddress.database(pg.config))
  const metrics = checked.meter === undefined ? undefined : yield* KvMetrics.calls(labels)
  const measured = metrics === undefined ? kv : KvMetrics.measured(metrics)(kv)
  const batched = checked.batching === false
    ? measured
    : Batching.batched({ ...checked.batching, metrics, deadline: checked.deadline })(kv)
  const traced = checked.tracing === false ? batched : Tracing.traced(labels, {
    ...checked.tracing,
    separator: checked.prefix === "" ? "|" : undefined
  })(batched)
  const service = yield* Kv.make(realTime.backend(traced), { alarms: realTime.provide(health.alarms(to)) })
  return Context.make(Kv.Kv, service).pipe(Context.add(PostgresStore, store.make(to, service)))
})

const replicaOf = Effect.fnUntraced(function*(
  to: connection.Connection,
  { replica }: settings.Settings
): Effect.fn.Return<replicas.Replica | undefined, KvError.KvError, Scope.Scope> {
  if (replica === undefined) return undefined
  const context = yield* Effect.mapError(Layer.build(replica), (error) => KvError.make(sqlErrors.reasonOf(error)))
  const pg = Context.get(context, PgClient.PgClient)
  yield* codecs.check(pg)
  return yield* replicas.make(to, pg)
})

const labelsOf = (
  { prefix, schema }: settings.Settings,
  database: string
): Readonly<Record<string, string>> => ({
  "db.system.name": "postgresql",
  "db.namespace": [database, schema, ...prefix === "" ? [] : [prefix]].join("|")
})
