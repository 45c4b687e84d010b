/**
 * Options of a layer, and their check.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import type * as Tracing from "@effect-kv/core/Tracing"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import * as names from "./schema/names.ts"

/**
 * How concurrent operations are batched: see `Batching.Options`.
 *
 * @since 0.1.0
 */
export interface BatchingOptions extends Pick<Batching.Options, "maxOps" | "maxBytes" | "maxInFlight"> {}

/**
 * How much history a store keeps.
 *
 * @since 0.1.0
 */
export interface HistoryOptions {
  /**
   * How many revisions before the last one can be read and watched from. Older history is compacted about once per
   * tenth of this number of revisions. Give all clients of a store the same number. Default: 100,000.
   */
  readonly revisions?: number | undefined
}

/**
 * Options of a layer.
 *
 * @since 0.1.0
 */
export interface Options {
  /**
   * The schema of the database that holds the store. Each schema is a store of its own. At most 63 bytes, and neither
   * `public` nor one of Postgres's own. Default: `effect_kv`.
   */
  readonly schema?: string | undefined
  /**
   * Whether the first call creates the schema if it is missing, and upgrades it if it is of an older version. If `false`,
   * such a call fails with `InvalidRequest`: run `PostgresSchema.script` yourself. Default: `true`.
   */
  readonly migrate?: boolean | undefined
  /** Restricts the store to the keys with this prefix, as `Kv.prefixed` does. Default: the whole store. */
  readonly prefix?: string | undefined
  /**
   * A client of a streaming replica, such as `PgClient.layer({ url })`. It answers the reads that are `serializable`, which
   * may lag; the primary does if the replica cannot. Default: the primary answers all reads.
   */
  readonly replica?: Layer.Layer<PgClient.PgClient, SqlError> | undefined
  /** How much history is kept. Default: 100,000 revisions. */
  readonly history?: HistoryOptions | undefined
  /** How concurrent operations are batched into transactions; `false` disables it. Default: batched. */
  readonly batching?: false | BatchingOptions | undefined
  /** Whether calls have spans. `{ keys: true }` adds keys to them, values never. Default: spans without keys. */
  readonly tracing?: boolean | Tracing.Options | undefined
  /** Whether calls and requests are measured (see `KvMetrics`). Default: true. */
  readonly metrics?: boolean | undefined
  /**
   * The deadline of calls that set none. A positive duration. Default: 5 seconds. It is that of the client's background work,
   * too, up to a minute.
   */
  readonly deadline?: Duration.Input | undefined
}

/** The options of a layer, checked and with their defaults. */
export interface Settings {
  readonly schema: string
  readonly migrate: boolean
  readonly prefix: string
  readonly replica: Options["replica"]
  readonly history: bigint
  readonly batching: false | BatchingOptions
  readonly tracing: false | Tracing.Options
  readonly deadline: Duration.Duration
  /** `undefined`: calls and requests are not measured. */
  readonly meter: KvMetrics.Meter | undefined
}

export const check = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Settings, KvError.KvError> {
  const schema = options.schema ?? "effect_kv"
  const problem = names.problemWith(schema)
  if (problem !== undefined) return yield* invalid(problem)
  const prefix = options.prefix ?? ""
  if (!prefix.isWellFormed()) return yield* invalid("prefix has a lone surrogate; it must be well-formed Unicode")
  const revisions = options.history?.revisions ?? 100_000
  if (!(Number.isSafeInteger(revisions) && revisions > 0)) {
    return yield* invalid(`history.revisions must be a positive integer, not ${revisions}`)
  }
  const batching = options.batching === false ? undefined : Batching.check(options.batching)
  if (batching !== undefined) return yield* invalid(`batching.${batching}`)
  const deadline = Duration.fromInput(options.deadline ?? Deadline.defaultDeadline)
  if (Option.isNone(deadline) || !(Duration.toMillis(deadline.value) > 0)) {
    return yield* invalid("deadline must be a duration longer than 0")
  }
  return {
    schema,
    migrate: options.migrate ?? true,
    prefix,
    replica: options.replica,
    history: BigInt(revisions),
    batching: options.batching ?? {},
    tracing: options.tracing === false ? false : typeof options.tracing === "object" ? options.tracing : {},
    deadline: deadline.value,
    meter: options.metrics === false ? undefined : new KvMetrics.Meter(yield* Effect.context<never>())
  }
})

const invalid = (message: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.InvalidRequest({ message }))
