/**
 * Performance goals of this library, and whether a run reached them.
 */
import type { Row } from "./Row.ts"

export interface Goal {
  readonly what: string
  readonly wanted: string
  /** `undefined` if something it needs was not measured. */
  readonly measure: (rows: ReadonlyArray<Row>) => Measured | undefined
}

export interface Measured {
  readonly text: string
  readonly reached: boolean
}

export interface GoalResult extends Measured {
  readonly what: string
  readonly wanted: string
}

/** The goals for which everything was measured. */
export const evaluate = (rows: ReadonlyArray<Row>): ReadonlyArray<GoalResult> =>
  goals.flatMap(({ measure, wanted, what }) => {
    const measured = measure(rows)
    return measured === undefined ? [] : [{ what, wanted, ...measured }]
  })

const find = (rows: ReadonlyArray<Row>, scenario: string, subject: string, inFlight: number): Row | undefined =>
  rows.find((row) => row.scenario === scenario && row.subject === subject && row.inFlight === inFlight)

const times = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)}x`

const spread = ({ ratioMax, ratioMin }: Row): string => `${times(ratioMin)} to ${times(ratioMax)}`

/** The throughput of `effect-kv`, as a multiple of that of the scenario's baseline, is at least so high. */
const rate = (what: string, scenario: string, inFlight: number, least: number): Goal => ({
  what,
  wanted: `at least ${least}x`,
  measure: (rows) => {
    const row = find(rows, scenario, "effect-kv", inFlight)
    return row && { text: `${times(row.ratio)} (${spread(row)})`, reached: row.ratio >= least }
  }
})

/** The median latency of `effect-kv` is at most so many times that of another subject. */
const latency = (what: string, scenario: string, inFlight: number, than: string, most: number): Goal => ({
  what,
  wanted: `at most ${most}x`,
  measure: (rows) => {
    const row = find(rows, scenario, "effect-kv", inFlight)
    const other = find(rows, scenario, than, inFlight)
    if (row === undefined || other === undefined) return undefined
    const ratio = row.p50Ms / other.p50Ms
    return { text: times(ratio), reached: ratio <= most }
  }
})

/** `effect-kv` reaches this share of the throughput of the scenario's baseline. */
const share = (what: string, scenario: string, inFlight: number, least: number, wanted: string): Goal => ({
  what,
  wanted,
  measure: (rows) => {
    const row = find(rows, scenario, "effect-kv", inFlight)
    const percent = (value: number): string => `${Math.round(value * 100)} %`
    return row && {
      text: `${percent(row.ratio)} (${percent(row.ratioMin)} to ${percent(row.ratioMax)})`,
      reached: row.ratio >= least
    }
  }
})

const handOver = (waiters: number, least: number): Goal => ({
  what: `lock, handed over among ${waiters} waiters of as many clients`,
  wanted: `at least ${least} a second`,
  measure: (rows) => {
    const row = find(rows, "lock-handover", "effect-kv", waiters)
    return row && {
      text: `${Math.round(row.opsPerSecond)} (${Math.round(row.opsPerSecondMin)} to ${
        Math.round(row.opsPerSecondMax)
      })`,
      reached: row.opsPerSecond >= least
    }
  }
})

const size = (what: string, subject: string, most: number): Goal => ({
  what,
  wanted: `at most ${most} kB`,
  measure: (rows) => {
    const bytes = find(rows, "packages", subject, 1)?.gzippedBytes
    return bytes === undefined ? undefined : { text: `${(bytes / 1000).toFixed(1)} kB`, reached: bytes <= most * 1000 }
  }
})

const goals: ReadonlyArray<Goal> = [
  rate("get, 256 in flight: throughput against etcd3", "get", 256, 15),
  rate("put, 256 in flight: throughput against etcd3", "put", 256, 15),
  latency("get, 256 in flight: p50 against etcd3", "get", 256, "etcd3", 0.1),
  latency("put, 256 in flight: p50 against etcd3", "put", 256, "etcd3", 0.1),
  rate("compare-and-set, 256 in flight: throughput against etcd3", "cas", 256, 10),
  rate("nine gets to a put, 64 in flight: throughput against etcd3", "mix", 64, 6),
  latency("get, one in flight: p50 against etcd3", "get", 1, "etcd3", 1.1),
  latency("put, one in flight: p50 against etcd3", "put", 1, "etcd3", 1.1),
  ...(["get", "put"] as const).flatMap((name) =>
    [240, 960].map((inFlight) =>
      share(
        `${name}, ${inFlight} in flight: share of bare loops of 120-operation transactions`,
        `batch-share-${name}`,
        inFlight,
        0.8,
        "at least 80 %"
      )
    )
  ),
  latency("lock, taken and released by itself: p50 against one put", "lock", 1, "effect-kv put", 2.3),
  handOver(2, 400),
  handOver(8, 400),
  handOver(64, 400),
  rate("watch, replay of 100,000 events: against etcd3's raw stream", "watch", 1, 0.9),
  rate("the same by 64 watches", "watch", 64, 0.9),
  share("memory, get: rate against KeyValueStore in memory", "memory-get", 1, 1 / 3, "at least a third"),
  share("memory, put: rate against KeyValueStore in memory", "memory-put", 1, 1 / 4, "at least a quarter"),
  size("@effect-kv/core + memory: minified and gzipped, without effect", "core + memory", 25)
]
