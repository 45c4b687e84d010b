/**
 * What happens to runners in processes of their own, with 300 shards on a real etcd: how long each step took, and what the
 * store's history says of it. The tests and the benchmark run these scenarios.
 *
 * Times are from the instant of the event to the instant at which a runner owned the shards, each by the clock of the
 * process that says so. The start of a process, which imports modules, does not count: a runner begins with its layers.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { type Changes, EtcdCluster, ShardChecker } from "@effect-kv/test-suite/verification"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { fenced, State, unfenced } from "./counters.ts"
import type { Interval } from "./machineStalls.ts"
import { type Done, type RunnerProcess, start, type TimedLine } from "./runnerProcesses.ts"

/** What each step may take, in milliseconds. */
export const goals = {
  "the first runner owns all shards": 1000,
  "after SIGTERM the others own all": 1000,
  "a restart at the same address owns its shards": 1000,
  "after SIGKILL the other owns all": 6500,
  "after etcd was away, all shards have owners": 1000
} as const

export type Step = keyof typeof goals

export type Steps = { readonly [S in Step]?: Interval }

const shards = 300

const all = (owned: number) => owned === shards
const half = (owned: number) => owned > 100 && owned < 200
const third = (owned: number) => owned > 50 && owned < 150

const ids = Array.from({ length: 20 }, (_, index) => `id-${index}`)

/** Whether the process said last that it runs the singleton. */
const runsSingleton = (lines: ReadonlyArray<TimedLine>) => {
  const last = lines.findLast((line) => line._tag === "Singleton")
  return last?.runs === true ? true : undefined
}

/** Increments all counters through the process, and waits for the responses: how the fenced ones ended. */
export const incrementAll = Effect.fnUntraced(function*(runner: RunnerProcess, prefix: string) {
  yield* Effect.forEach(ids, (id) => runner.command(`increment ${prefix}${id}`))
  const done = yield* runner.reported((lines) => {
    const done = lines.filter((line): line is Done => line._tag === "Done" && line.id.startsWith(prefix))
    return done.length >= 2 * ids.length ? done : undefined
  })
  return done.map(({ how }) => how)
})

/** What the store's history says of the cluster with that prefix. */
export const violationsOf = (
  changes: ReadonlyArray<Changes.Change>,
  prefix: string,
  counters: typeof fenced | typeof unfenced
) =>
  ShardChecker.check(changes, {
    shardOf: (key) => key.startsWith(`${prefix}/locks/`) ? key.slice(`${prefix}/locks/`.length) : undefined,
    writtenUnder: ({ key, type, valueBytes }) => {
      if (type === "delete" || !key.startsWith(counters.keyOf(prefix))) return undefined
      const { shard, token } = Schema.decodeSync(State)(new TextDecoder().decode(valueBytes))
      return { shard, token: BigInt(token) }
    }
  })

const historyOf = (cluster: EtcdCluster.EtcdCluster["Service"]) =>
  Effect.scoped(Effect.gen(function*() {
    const recording = yield* cluster.watchFrom()
    return yield* recording.upTo(yield* cluster.revision)
  }))

const clientOf = (cluster: EtcdCluster.EtcdCluster["Service"]) =>
  Effect.map(Layer.build(EtcdLayer.layer({ endpoints: cluster.endpoints })), Context.get(Kv.Kv))

/** From the instant until all of the runners own so many shards. */
const until = (runners: ReadonlyArray<RunnerProcess>, count: (owned: number) => boolean, from: number) =>
  Effect.map(
    Effect.forEach(runners, (runner) => runner.owns(count, from), { concurrency: "unbounded" }),
    (durations): Interval => ({ from, to: from + Math.max(...durations) })
  )

const started = (runner: RunnerProcess) =>
  Effect.map(runner.reported((lines) => lines.find((line) => line._tag === "Started")), ({ at }) => at)

/**
 * Waits until the last renewal of the runner's leases is some time ago. Otherwise a kill just after it would be measured
 * with the half second that etcd takes at most to notice the end of a lease.
 */
const betweenRenewals = (runner: RunnerProcess) =>
  Effect.gen(function*() {
    const seen = runner.lines.length
    const { at } = yield* runner.reported((lines) => lines.slice(seen).find((line) => line._tag === "Renewed"))
    yield* Effect.sleep(at + 500 - Date.now())
  })

/** Runners join, end, crash, and are restarted. */
export const joinAndEnd = Effect.gen(function*() {
  const cluster = yield* EtcdCluster.make()
  const launch = (port?: number) =>
    start({ endpoint: cluster.endpoints[0]!, prefix: "x", shards, ...(port === undefined ? {} : { port }) })

  // All processes start at once, and each runner begins when it is its turn: starting takes the most time of all.
  const [a, b, c] = yield* Effect.all([launch(), launch(), launch()])
  const again = yield* launch(b.port)

  yield* a.begin
  const first = yield* until([a], all, yield* started(a))
  yield* a.reported(runsSingleton)

  yield* b.begin
  yield* c.begin
  yield* Effect.forEach([b, c], (runner) => runner.owns((owned) => owned > 0, 0))
  yield* Effect.forEach([a, b, c], (runner) => runner.owns(third, 0))
  const before = yield* incrementAll(b, "x-1")

  const ended = yield* until([a, b], half, yield* c.signal("SIGTERM"))
  yield* c.gone

  yield* b.signal("SIGKILL")
  yield* b.gone
  yield* again.begin
  const restarted = yield* until([again], half, yield* started(again))

  yield* betweenRenewals(again)
  const killed = yield* until([a], all, yield* again.signal("SIGKILL"))
  yield* a.reported(runsSingleton)
  const after = yield* incrementAll(a, "x-2")

  const steps: Steps = {
    "the first runner owns all shards": first,
    "after SIGTERM the others own all": ended,
    "a restart at the same address owns its shards": restarted,
    "after SIGKILL the other owns all": killed
  }
  return {
    steps,
    /** How the calls ended. Each is the first increment of its counter. */
    calls: [...before, ...after],
    violations: violationsOf(yield* historyOf(cluster), "x", fenced)
  }
})

/** The store of a scenario. */
export interface Store {
  readonly url: string
  readonly kv: Kv.Kv
  /** All that was written. */
  readonly history: Effect.Effect<ReadonlyArray<Changes.Change>>
}

/**
 * A runner is frozen for longer than the expiration, with work that writes when it is thawed, and with calls that arrive
 * meanwhile.
 */
export const freezeOn = Effect.fnUntraced(function*({ history, kv, url }: Store) {
  const launch = start({ endpoint: url, prefix: "x", shards })
  const [a, b] = yield* Effect.all([launch, launch])
  yield* a.begin
  yield* a.owns(all, 0)
  // Work that is to write while the process is frozen.
  yield* Effect.forEach(ids, (id) => a.command(`later x-${id} 4000`))
  yield* Effect.repeat(kv.getEntry("x/runners/127.0.0.1:" + a.port), { until: Option.isSome })
  yield* a.command("increment x-begun")
  yield* a.reported((lines) => lines.find((line) => line._tag === "Done" && line.id === "x-begun"))
  const frozen = yield* a.signal("SIGSTOP")
  yield* b.begin
  const taken = yield* b.owns(all, frozen)
  const calls = yield* incrementAll(b, "x-")
  yield* Effect.forEach(ids, (id) => a.command(`increment asleep-${id}`))
  yield* a.signal("SIGCONT")
  const doneWith = (prefix: string) =>
    a.reported((lines) => {
      const done = lines.filter((line): line is Done => line._tag === "Done" && line.id.startsWith(prefix))
      return done.length >= 2 * ids.length ? done : undefined
    })
  const late = yield* doneWith("x-id")
  const received = yield* doneWith("asleep-")
  yield* Effect.forEach([a, b], (runner) => runner.owns(half, frozen + taken))
  const changes = yield* history
  return {
    calls,
    /** How the writes of the thawed runner ended. */
    late,
    /** How the calls ended that it received while it was frozen. Each is the first increment of its counter. */
    received: received.filter(({ type }) => type === "fenced").map(({ how }) => how),
    violations: violationsOf(changes, "x", fenced),
    /** What the store accepted of the writes without a fence. */
    withoutFence: violationsOf(changes, "x", unfenced)
  }
})

/** The same on etcd. */
export const freeze = Effect.gen(function*() {
  const cluster = yield* EtcdCluster.make()
  return yield* freezeOn({
    url: cluster.endpoints[0]!,
    kv: yield* clientOf(cluster),
    history: Effect.orDie(historyOf(cluster))
  })
})

/** etcd is away for longer than the leases. */
export const outage = Effect.gen(function*() {
  const cluster = yield* EtcdCluster.make()
  const launch = start({ endpoint: cluster.endpoints[0]!, prefix: "x", shards })
  const [a, b] = yield* Effect.all([launch, launch])
  yield* a.begin
  yield* a.owns(all, 0)
  yield* b.begin
  yield* Effect.forEach([a, b], (runner) => runner.owns(half, 0))
  yield* cluster.member.kill
  const away = Date.now()
  yield* Effect.forEach([a, b], (runner) => runner.owns((owned) => owned === 0, away))
  yield* Effect.sleep("9 seconds")
  yield* cluster.member.start
  const back = yield* until([a, b], half, Date.now())
  const steps: Steps = { "after etcd was away, all shards have owners": back }
  const calls = yield* incrementAll(b, "x-")
  return { steps, calls, violations: violationsOf(yield* historyOf(cluster), "x", fenced) }
})
