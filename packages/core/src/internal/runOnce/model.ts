/**
 * Runs as values: what the `RunOnce` module and its engine share, and the record of the last run as the store holds it.
 */
import type * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Entry } from "../../values/Entry.ts"

/**
 * A run of this client.
 *
 * @since 0.1.0
 */
export interface Run {
  /** The name of the job. */
  readonly name: string
  /** The fencing token: each run's is larger than those of all runs of that name before it. */
  readonly token: bigint
  /** 1 for the first run, 2 for the one that repeats it after its runner crashed or was interrupted, and so on. */
  readonly attempt: number
}

/**
 * A run of a cron's tick.
 *
 * @since 0.1.0
 */
export interface Tick extends Run {
  /** When the tick was due by the schedule. It identifies the tick, whatever the clocks of the machines say. */
  readonly scheduled: DateTime.Utc
}

/**
 * The last run of a name, as every client sees it.
 *
 * **Details**
 *
 * - `Waiting`: there was no run yet.
 * - `Running`: a client runs it.
 * - `Done`, `Failed`: it ended. A failed tick of a cron is not repeated; a failed `forKey` is, by its next call.
 * - `Interrupted`: its runner was interrupted, or its client was closed.
 * - `Crashed`: its runner's lease ended before the run did.
 *
 * @since 0.1.0
 */
export interface Status {
  readonly state: "Waiting" | "Running" | "Done" | "Failed" | "Interrupted" | "Crashed"
  /** The tick; `none` for `forKey`, which has none. */
  readonly scheduled: Option.Option<DateTime.Utc>
  /** The `description` option of its runner. */
  readonly description: string
  /** How often it was started. */
  readonly attempts: number
}

const Record = Schema.Struct({
  /** The tick in ISO 8601; absent for `forKey`. In the state `Waiting`, the time after which ticks count. */
  tick: Schema.optionalKey(Schema.String),
  state: Schema.Literals(["Waiting", "Running", "Done", "Failed", "Interrupted"]),
  by: Schema.String,
  attempts: Schema.Int
})

/** The value of the key of the record. */
export type Record = typeof Record.Type

const decodeRecord = Schema.decodeUnknownOption(Schema.fromJsonString(Record))

/** The record of an entry; `none` if something else wrote it. */
export const decode = (entry: Entry): Option.Option<Record> =>
  Option.filter(decodeRecord(entry.lossyText), ({ tick }) => tick === undefined || !Number.isNaN(Date.parse(tick)))

export const encode = (record: Record): string => JSON.stringify(record)

/**
 * The key of the record. It is not `NAME`: a job `a/b` would then block the lock `a`, whose contenders are all keys
 * directly under `a/`. And both keys end with words of their own, so no key of a job is one of another job.
 */
export const recordKeyOf = (name: string): string => `${name}/once/last`

/** The key that exists, with the runner's lease, while a run is in progress. */
export const runKeyOf = (name: string): string => `${name}/once/run`
