/**
 * Performance goals of this library, and whether a run reached them.
 */
import { median, type Round, type Row } from "./Row.ts"

export interface Goal {
  readonly what: string
  /** The scenario that measures it. */
  readonly scenario: string
  /** The rows of that scenario that it is measured from. */
  readonly rows: ReadonlyArray<Measurement>
  readonly wanted: string
  /** Whether the benchmark fails if it is not reached. Others are comparisons, which depend on the machine. */
  readonly isRequired?: boolean
  /** `undefined` if something it needs was not measured. */
  readonly measure: (rows: ReadonlyArray<Row>) => Measured | undefined
}

/** A subject with so many calls in flight. */
export interface Measurement {
  readonly subject: string
  readonly inFlight: number
}

export interface Measured {
  readonly text: string
  readonly reached: boolean
}

export interface GoalResult extends Measured {
  readonly what: string
  readonly wanted: string
  readonly isRequired: boolean
}

/** The goals for which everything was measured. */
export const evaluate = (rows: ReadonlyArray<Row>): ReadonlyArray<GoalResult> =>
  goals.flatMap(({ isRequired = false, measure, wanted, what }) => {
    const measured = measure(rows)
    return measured === undefined ? [] : [{ what, wanted, isRequired, ...measured }]
  })

const find = (rows: ReadonlyArray<Row>, scenario: string, subject: string, inFlight: number): Row | undefined =>
  rows.find((row) => row.scenario === scenario && row.subject === subject && row.inFlight === inFlight)

const times = (value: number): string => `${value.toFixed(value < 10 ? 2 : 1)}x`

const spread = ({ ratioMax, ratioMin }: Row): string => `${times(ratioMin)} to ${times(ratioMax)}`

/** The ratios of two subjects within each round. */
const ratiosOf = (row: Row, other: Row, valueOf: (round: Round) => number): ReadonlyArray<number> =>
  row.rounds.map((round, i) => valueOf(round) / valueOf(other.rounds[i]!))

const textOf = (ratios: ReadonlyArray<number>): string =>
  `${times(median(ratios))} (${times(Math.min(...ratios))} to ${times(Math.max(...ratios))})`

const rowsOf = (inFlight: number, ...subjects: ReadonlyArray<string>): ReadonlyArray<Measurement> =>
  subjects.map((subject) => ({ subject, inFlight }))

/** The throughput of `effect-kv`, as a multiple of that of the scenario's baseline, is at least so high. */
const rate = (what: string, scenario: string, inFlight: number, baseline: string, least: number): Goal => ({
  what,
  scenario,
  rows: rowsOf(inFlight, baseline, "effect-kv"),
  wanted: `at least ${least}x`,
  measure: (rows) => {
    const row = find(rows, scenario, "effect-kv", inFlight)
    return row && { text: `${times(row.ratio)} (${spread(row)})`, reached: row.ratio >= least }
  }
})

/** The median latency of `effect-kv` is at most so many times that of another subject. */
const latency = (what: string, scenario: string, inFlight: number, than: string, most: number): Goal =>
  latencyTo(what, scenario, inFlight, "effect-kv", than, most)

/** The median latency of one subject is at most so many times that of another. */
const latencyTo = (
  what: string,
  scenario: string,
  inFlight: number,
  subject: string,
  than: string,
  most: number
): Goal => ({
  what,
  scenario,
  rows: rowsOf(inFlight, than, subject),
  wanted: `at most ${most}x`,
  measure: (rows) => {
    const row = find(rows, scenario, subject, inFlight)
    const other = find(rows, scenario, than, inFlight)
    if (row === undefined || other === undefined) return undefined
    const ratios = ratiosOf(row, other, ({ p50Ms }) => p50Ms)
    return { text: textOf(ratios), reached: median(ratios) <= most }
  }
})

/** The operations a second of one subject are so many times those of another. */
const rateTo = (
  what: string,
  scenario: string,
  inFlight: number,
  subject: string,
  than: string,
  least: number
): Goal => ({
  what,
  scenario,
  rows: rowsOf(inFlight, subject, than),
  wanted: `at least ${least}x`,
  measure: (rows) => {
    const row = find(rows, scenario, subject, inFlight)
    const other = find(rows, scenario, than, inFlight)
    if (row === undefined || other === undefined) return undefined
    const ratios = ratiosOf(row, other, ({ opsPerSecond }) => opsPerSecond)
    return { text: textOf(ratios), reached: median(ratios) >= least }
  }
})

/** `effect-kv` reaches this share of the throughput of the scenario's baseline. */
const share = (
  what: string,
  scenario: string,
  inFlight: number,
  baseline: string,
  least: number,
  wanted: string
): Goal => ({
  what,
  scenario,
  rows: rowsOf(inFlight, baseline, "effect-kv"),
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

/** A subject costs at most so much more than the scenario's baseline, by the median and with its interval. */
const costs = (what: string, scenario: string, inFlight: number, subject: string, most: number): Goal => ({
  what,
  scenario,
  rows: rowsOf(inFlight, subject),
  wanted: `at most ${most * 100} %`,
  measure: (rows) => {
    const paired = find(rows, scenario, subject, inFlight)?.paired
    if (paired === undefined) return undefined
    const percent = (share: number): string => (share * 100).toFixed(1)
    const { cpu, throughput } = paired
    return {
      text: `throughput ${percent(1 - throughput.median)} % (${percent(1 - throughput.high)} to ${
        percent(1 - throughput.low)
      }), CPU ${percent(cpu.median - 1)} % (${percent(cpu.low - 1)} to ${percent(cpu.high - 1)})`,
      reached: throughput.median >= 1 - most && cpu.median <= 1 + most
    }
  }
})

const handOver = (what: string, scenario: string, waiters: number, subject: string, least: number): Goal => ({
  what,
  scenario,
  rows: rowsOf(waiters, subject),
  wanted: `at least ${least} a second`,
  measure: (rows) => {
    const row = find(rows, scenario, subject, waiters)
    return row && {
      text: `${Math.round(row.opsPerSecond)} (${Math.round(row.opsPerSecondMin)} to ${
        Math.round(row.opsPerSecondMax)
      })`,
      reached: row.opsPerSecond >= least
    }
  }
})

/** Less than garbage collection varies. */
const growthBytes = 2_000_000

/** Memory does not grow as things are opened and closed. */
const flat = (subject: string): Goal => ({
  what: `${subject}: memory while it is opened and closed`,
  scenario: "heap",
  rows: rowsOf(1, subject),
  wanted: "flat",
  measure: (rows) => {
    const memory = find(rows, "heap", subject, 1)?.memory
    return memory && {
      text: `${(memory.growthBytes / 1000).toFixed(0)} kB in ${memory.cycles} cycles, ${
        (memory.eachBytes / 1000).toFixed(1)
      } kB each`,
      reached: memory.growthBytes < growthBytes
    }
  }
})

/** A view shows the changes as fast as they are made, and its memory does not grow. */
const currentView = (subject: string, changesPerSecond: number): Goal => ({
  what: `members, ${subject}: stays current at ${changesPerSecond} changes a second`,
  scenario: "members",
  rows: rowsOf(1, subject),
  wanted: `at least 98 %, memory flat`,
  measure: (rows) => {
    const row = find(rows, "members", subject, 1)
    return row?.memory && {
      text: `${Math.round(row.opsPerSecond)} a second, p99 ${row.p99Ms.toFixed(1)} ms, ${
        (row.memory.growthBytes / 1000).toFixed(0)
      } kB in ${row.memory.cycles} changes`,
      reached: row.opsPerSecond >= changesPerSecond * 0.98 && row.memory.growthBytes < growthBytes
    }
  }
})

/** Each round of a step of the cluster takes at most so many seconds. */
const step = (subject: string, most: number): Goal => ({
  what: `cluster of 300 shards: ${subject}`,
  scenario: "cluster",
  rows: rowsOf(1, subject),
  wanted: `at most ${most} s`,
  isRequired: true,
  measure: (rows) => {
    const row = find(rows, "cluster", subject, 1)
    if (row === undefined) return undefined
    const seconds = row.rounds.map(({ p50Ms }) => p50Ms / 1000)
    return {
      text: `${median(seconds).toFixed(2)} s (${Math.min(...seconds).toFixed(2)} s to ${
        Math.max(...seconds).toFixed(2)
      } s), the machine stalled for at most ${((row.stallMillis ?? 0) / 1000).toFixed(2)} s`,
      reached: Math.max(...seconds) <= most
    }
  }
})

/** An idle runner makes at most so many requests of a kind in ten seconds. */
const idleRequests = (kind: "renewals" | "reads", most: number): Goal => ({
  what: `cluster, idle runner at Effect's default intervals: ${kind} in 10 s`,
  scenario: "cluster",
  rows: rowsOf(1, `idle runner: ${kind}`),
  wanted: `at most ${most}`,
  isRequired: true,
  measure: (rows) => {
    const row = find(rows, "cluster", `idle runner: ${kind}`, 1)
    return row && { text: (row.opsPerSecondMax * 10).toFixed(1), reached: row.opsPerSecondMax * 10 <= most }
  }
})

const size = (what: string, subject: string, most: number): Goal => ({
  what,
  scenario: "packages",
  rows: rowsOf(1, subject),
  wanted: `at most ${most} kB`,
  measure: (rows) => {
    const bytes = find(rows, "packages", subject, 1)?.gzippedBytes
    return bytes === undefined ? undefined : { text: `${(bytes / 1000).toFixed(1)} kB`, reached: bytes <= most * 1000 }
  }
})

/** The code of a program is as large as that of another, except for what a bundler adds. */
const sameSize = (what: string, subject: string, than: string): Goal => ({
  what,
  scenario: "packages",
  rows: rowsOf(1, than, subject),
  wanted: "at most 1.02x",
  measure: (rows) => {
    const bytes = find(rows, "packages", subject, 1)?.minifiedBytes
    const other = find(rows, "packages", than, 1)?.minifiedBytes
    return bytes === undefined || other === undefined
      ? undefined
      : { text: times(bytes / other), reached: bytes <= other * 1.02 }
  }
})

/** So many calls a second. */
const throughput = (what: string, scenario: string, inFlight: number, subject: string, least: number): Goal => ({
  ...handOver(what, scenario, inFlight, subject, least),
  wanted: `at least ${least.toLocaleString("en")} a second`
})

/** What a client asks of the server while nothing happens, whatever the number of its watches. */
const quiet = (what: string, scenario: string, inFlight: number, subject: string, than: string): Goal => ({
  what,
  scenario,
  rows: rowsOf(inFlight, subject, than),
  wanted: "less than 1 a second",
  measure: (rows) => {
    const row = find(rows, scenario, subject, inFlight)
    const other = find(rows, scenario, than, inFlight)
    return row && other && {
      text: `${row.opsPerSecond.toFixed(1)} a second (${other.opsPerSecond.toFixed(1)} with ${than})`,
      reached: row.opsPerSecond < 1
    }
  }
})

/** The tables have reached their size after so much of the run, and keep it. */
const bounded = (what: string, scenario: string, inFlight: number, settled: string, last: string): Goal => ({
  what,
  scenario,
  rows: rowsOf(inFlight, settled, last),
  wanted: "at most 1.2x in the second half",
  measure: (rows) => {
    const [before, after] = [settled, last].map((subject) => find(rows, scenario, subject, inFlight)?.storage)
    if (before === undefined || after === undefined) return undefined
    const [x, y] = [before, after].map(({ entryBytes, indexBytes, logBytes }) =>
      entryBytes + indexBytes + logBytes
    ) as [
      number,
      number
    ]
    return { text: `${(x / 1e6).toFixed(0)} MB, then ${(y / 1e6).toFixed(0)} MB`, reached: y <= x * 1.2 }
  }
})

const onPostgres: ReadonlyArray<Goal> = [
  latencyTo("put, one in flight: p50 against a bare update", "postgres-put", 1, "effect-kv", "bare", 3),
  latencyTo("get, one in flight: p50 against a bare select", "postgres-get", 1, "effect-kv", "bare", 2),
  throughput("put, 256 in flight", "postgres-put", 256, "effect-kv", 10_000),
  rateTo("the same against unbatched", "postgres-put", 256, "effect-kv", "effect-kv unbatched", 5),
  latencyTo("lock, acquired and released: p50 against a put", "postgres-lock", 1, "effect-kv", "effect-kv put", 2.5),
  ...[2, 8].map((waiters) =>
    handOver(`lock, handed over among ${waiters} clients`, "postgres-handover", waiters, "effect-kv", 200)
  ),
  quiet("1,000 idle watches: statements", "postgres-idle-watches", 1000, "1,000 watches", "no watch"),
  bounded(
    "a day's overwrites, two a second: size of tables and indexes",
    "postgres-growth",
    8,
    "after 50 %",
    "after 100 %"
  )
]

const goals: ReadonlyArray<Goal> = [
  ...(["get", "put"] as const).flatMap((name) => [
    latency(`${name}, one in flight: p50 against etcd3`, name, 1, "etcd3", 0.6),
    latency(`${name}, one in flight: p50 against Go`, name, 1, "Go", 1.3),
    rateTo(`${name}, 64 in flight, unbatched: throughput against etcd3`, name, 64, "effect-kv unbatched", "etcd3", 2),
    rate(`${name}, 256 in flight: throughput against etcd3`, name, 256, "etcd3", 15),
    rateTo(`${name}, 256 in flight: throughput against Go`, name, 256, "effect-kv", "Go", 5),
    latency(`${name}, 256 in flight: p50 against etcd3`, name, 256, "etcd3", 0.1)
  ]),
  rate("compare-and-set, 256 in flight: throughput against etcd3", "cas", 256, "etcd3", 10),
  rate("nine gets to a put, 64 in flight: throughput against etcd3", "mix", 64, "etcd3", 8),
  ...(["get", "put"] as const).flatMap((name) =>
    [240, 960].map((inFlight) =>
      share(
        `${name}, ${inFlight} in flight: share of bare loops of 120-operation transactions`,
        `batch-share-${name}`,
        inFlight,
        "bare loops",
        0.85,
        "at least 85 %"
      )
    )
  ),
  ...(["get", "put"] as const).map((name) =>
    costs(`${name}, 256 in flight: cost of metrics`, `metrics-${name}`, 256, "with metrics", 0.03)
  ),
  costs("client alone, 256 puts in flight: cost of metrics", "metrics-client", 256, "with metrics", 0.03),
  latency(
    "lock, acquired and released by itself: p50 against its two transactions",
    "lock",
    1,
    "two transactions",
    1.2
  ),
  latency("lock, acquired and released by itself: p50 against Go's Mutex", "lock", 1, "Go", 1.6),
  ...[2, 8, 64].flatMap((waiters) => [
    handOver(
      `lock, handed over among ${waiters} waiters of as many clients`,
      "lock-handover",
      waiters,
      "effect-kv",
      400
    ),
    rateTo(`the same against Go's Mutex, ${waiters} clients`, "lock-handover", waiters, "effect-kv", "Go", 1)
  ]),
  latencyTo("election, campaign and resign: p50 against a lock", "recipes", 1, "campaign, resign", "acquire", 1.05),
  latencyTo("election, Election.use: p50 against withDistLock", "recipes", 1, "Election.use", "withDistLock", 1.05),
  latencyTo("semaphore, withPermits: p50 against withDistLock", "recipes", 1, "withPermits", "withDistLock", 1.2),
  ...["1 permit", "8 permits"].map((permits) =>
    handOver(`semaphore, ${permits}, handed over among 64 waiters of 8 clients`, "semaphore-handover", 64, permits, 400)
  ),
  currentView("view of 1000", 2000),
  step("the first runner owns all shards", 1),
  step("after SIGTERM the others own all", 1),
  step("a restart at the same address owns its shards", 1),
  step("after SIGKILL the other owns all", 6.5),
  step("after etcd was away, all shards have owners", 1),
  idleRequests("renewals", 4),
  idleRequests("reads", 4),
  rate("watch, replay of 100,000 events: against etcd3's raw stream", "watch", 1, "etcd3 raw", 1.5),
  rateTo("watch, replay of 100,000 events: against Go", "watch", 1, "effect-kv", "Go", 0.8),
  rate("the same by 64 watches: against etcd3's raw stream", "watch", 64, "etcd3 raw", 0.9),
  latency("import and first get on a running server: time against etcd3", "first-get", 1, "etcd3", 0.6),
  ...["idle client", "idle watch", "held lock"].map(flat),
  share(
    "memory, get: rate against KeyValueStore in memory",
    "memory-get",
    1,
    "KeyValueStore",
    1 / 3,
    "at least a third"
  ),
  share(
    "memory, put: rate against KeyValueStore in memory",
    "memory-put",
    1,
    "KeyValueStore",
    1 / 4,
    "at least a quarter"
  ),
  size("@effect-kv/core + memory: minified and gzipped, without effect", "core + memory", 25),
  size("DistLock on memory alone: minified and gzipped, without effect", "DistLock on memory", 25),
  sameSize("the same imported from the indexes of the packages", "DistLock on memory, by index", "DistLock on memory"),
  ...onPostgres.map((goal) => ({ ...goal, what: `Postgres: ${goal.what}` }))
]

/** The scenarios that measure a goal. */
export const scenarios: ReadonlySet<string> = new Set(goals.map(({ scenario }) => scenario))

/** Whether a goal is measured from that row of the scenario. */
export const need = (scenario: string, { inFlight, subject }: Measurement): boolean =>
  goals.some((goal) =>
    goal.scenario === scenario && goal.rows.some((row) => row.subject === subject && row.inFlight === inFlight)
  )
