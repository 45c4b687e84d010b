/**
 * What a store on Postgres costs while nothing happens, and how large its tables become when a day's worth of overwrites
 * goes through them.
 */
import { KeyRange } from "@effect-kv/core"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Effect from "effect/Effect"
import * as Measure from "../Measure.ts"
import { type Row, rowsOf } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as postgres from "../subjects/postgres.ts"

const watches = 1000

/**
 * Statements a second of a client with 1,000 watches that nothing happens to. They are counted in the statistics of the
 * database, so those of autovacuum are in them too.
 */
export const idleWatches: Scenario = {
  name: "postgres-idle-watches",
  run: Effect.fnUntraced(function*({ postgres: server, quick }) {
    const { url } = yield* server("durable")
    const seconds = quick ? 6 : 20
    const observer = yield* postgres.pool(url)
    const kv = yield* postgres.openAlone(url)
    yield* kv.put("bench/idle", Calls.value)
    const found = new Map<string, Array<ReturnType<Measure.Stopwatch["stop"]>>>()
    for (const [name, count] of [["no watch", 0], ["1,000 watches", watches]] as const) {
      const round = yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.forEach(
          Array.from({ length: count }, (_, i) => i),
          (i) => backendOf(kv).watch({ range: KeyRange.key(`bench/idle/${i}`) }),
          { concurrency: 16, discard: true }
        )
        // An idle connection reports its statistics after ten seconds.
        yield* Effect.sleep("12 seconds")
        const before = yield* statements(observer)
        const watch = new Measure.Stopwatch()
        yield* Effect.sleep(`${seconds} seconds`)
        const made = (yield* statements(observer)) - before
        return { ...watch.stop(), opsPerSecond: Math.max(0, made - ownStatements) / seconds, cpuMicrosPerOp: 0 }
      }))
      found.set(name, [round])
    }
    return rowsOf("postgres-idle-watches", watches, found)
  })
}

/** What the observer itself makes between two readings. */
const ownStatements = 2

/** How many statements there were. */
const statements = (pg: Effect.Success<ReturnType<typeof postgres.pool>>) =>
  Effect.gen(function*() {
    yield* pg`select pg_stat_force_next_flush()`
    const [row] = yield* pg<{ readonly count: number }>`
      select xact_commit::int as count from pg_stat_database where datname = current_database()`
    return row!.count
  })

const keys = 1000
const perSecond = 2
/** A day's worth. */
const overwrites = 24 * 3600 * perSecond
const samples = 10
/** So the day takes less than four minutes. */
const drivenPerSecond = 400 * perSecond

/**
 * Overwrites of 1,000 keys with values of 100 bytes, as many as a day has at two a second, each in a revision of its own,
 * 400 times as fast. It keeps the last 20,000 revisions, a fifth of the default, so that the history is replaced several
 * times. Compaction and autovacuum run as they do by default, and have 400 times less time than in a day: what is compacted
 * is deleted up to half a minute later, which is 24,000 revisions here.
 */
export const growth: Scenario = {
  name: "postgres-growth",
  run: Effect.fnUntraced(function*({ postgres: server, quick }) {
    const { url } = yield* server("volatile")
    const pg = yield* postgres.pool(url)
    const kv = yield* postgres.open(pg, { batching: false, schema: "growth", history: { revisions: 20_000 } })
    const rows: Array<Row> = []
    const total = quick ? overwrites / 100 : overwrites
    for (let sample = 1; sample <= samples; sample++) {
      const watch = new Measure.Stopwatch()
      let next = 0
      const began = performance.now()
      const writer = Effect.gen(function*() {
        while (next < total / samples) {
          const i = next++
          yield* Effect.sleep(Math.max(0, began + i * 1000 / drivenPerSecond - performance.now()))
          const started = performance.now()
          yield* kv.put(`bench/growth/${i % keys}`, Calls.value)
          watch.lap(started)
        }
      })
      yield* Effect.all(Array.from({ length: 8 }, () => writer), { concurrency: "unbounded", discard: true })
      const [row] = rowsOf("postgres-growth", 8, new Map([[`after ${sample * 100 / samples} %`, [watch.stop()]]])) as [
        Row
      ]
      rows.push({ ...row, storage: yield* sizes(pg) })
    }
    return rows
  })
}

const sizes = (pg: Effect.Success<ReturnType<typeof postgres.pool>>) =>
  Effect.map(
    pg<{ readonly entryBytes: number; readonly logBytes: number; readonly indexBytes: number; readonly rows: number }>`
      select pg_relation_size('growth.entry')::float8 as "entryBytes", pg_relation_size('growth.log')::float8 as "logBytes",
        (pg_indexes_size('growth.entry') + pg_indexes_size('growth.log'))::float8 as "indexBytes",
        (select count(*) from growth.log)::float8 as rows`,
    ([row]) => row!
  )
