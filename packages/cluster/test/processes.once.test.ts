/**
 * Runners in processes of their own, with 300 shards on a real etcd: what happens when they are killed, stopped, ended,
 * frozen and restarted, and when etcd is away. All scenarios run at the same time.
 *
 * The history of the store shows for each that no lock was ever written while it was held, and which entity's writes were
 * accepted without one.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { type Changes, EtcdCluster, ShardChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { fenced, State, unfenced } from "./support/counters.ts"
import { type Done, type RunnerProcess, start, type TimedLine } from "./support/runnerProcesses.ts"

const shards = 300

/**
 * The longest time, in milliseconds, for what does not wait for a lease to expire. On a quiet machine it takes less than a
 * second. Waiting for the lease takes 4 seconds or more.
 */
const atOnce = 3000

const all = (owned: number) => owned === shards

const ids = Array.from({ length: 20 }, (_, index) => `id-${index}`)

/** How often a process said that it runs the singleton. */
const runsSingleton = (lines: ReadonlyArray<TimedLine>) => {
  const last = lines.findLast((line) => line._tag === "Singleton")
  return last?.runs === true ? true : undefined
}

/** Increments all counters through the process, and waits for the responses. */
const incrementAll = Effect.fnUntraced(function*(runner: RunnerProcess, prefix: string) {
  yield* Effect.forEach(ids, (id) => runner.command(`increment ${prefix}${id}`))
  return yield* runner.reported((lines) => {
    const done = lines.filter((line): line is Done => line._tag === "Done" && line.id.startsWith(prefix))
    return done.length >= 2 * ids.length ? done : undefined
  })
})

/** What the store's history says of the cluster with that prefix. */
const violations = (
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

describe("runners in processes of their own", { concurrent: true }, () => {
  it.live(
    "join, end, crash, restart: the shards have an owner again in time, and never two",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make()
        const launch = (port?: number) =>
          start({ endpoint: cluster.endpoints[0]!, prefix: "x", shards, ...(port === undefined ? {} : { port }) })
        const measured: Record<string, number> = {}

        const a = yield* launch()
        const { at: started } = yield* a.reported((lines) => lines[0])
        measured["first runner owns all"] = yield* a.owns(all, started)
        yield* a.reported(runsSingleton)

        const b = yield* launch()
        const c = yield* launch()
        yield* Effect.forEach([b, c], (runner) => runner.owns((owned) => owned > 0, 0))
        yield* Effect.forEach([a, b, c], (runner) => runner.owns((owned) => owned > 50 && owned < 150, 0))
        assert.isTrue((yield* incrementAll(b, "x-1")).every((line) => line.how === "1"))

        const ended = yield* c.signal("SIGTERM")
        yield* c.gone
        const half = (owned: number) => owned > 100 && owned < 200
        measured["after SIGTERM"] = Math.max(
          ...yield* Effect.forEach([a, b], (runner) => runner.owns(half, ended), { concurrency: "unbounded" })
        )

        yield* b.signal("SIGKILL")
        yield* b.gone
        const again = yield* launch(b.port)
        const { at: restarted } = yield* again.reported((lines) => lines[0])
        measured["after a restart at the same address"] = yield* again.owns(half, restarted)

        const killed = yield* again.signal("SIGKILL")
        measured["after SIGKILL"] = yield* a.owns(all, killed)
        yield* a.reported(runsSingleton)
        assert.isTrue((yield* incrementAll(a, "x-2")).every((line) => line.how === "1"))

        assert.deepStrictEqual(violations(yield* historyOf(cluster), "x", fenced), [])
        assert.isBelow(measured["first runner owns all"], atOnce)
        assert.isBelow(measured["after SIGTERM"], atOnce)
        assert.isBelow(measured["after a restart at the same address"], atOnce)
        assert.isBelow(measured["after SIGKILL"], 7500)
      }),
    60_000
  )

  it.live(
    "a runner that is frozen for longer than the expiration writes nothing more for the shards it lost",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make()
        const kv = yield* clientOf(cluster)
        const launch = start({ endpoint: cluster.endpoints[0]!, prefix: "x", shards })
        const a = yield* launch
        yield* a.owns(all, 0)
        // Work that is to write while the process is frozen.
        yield* Effect.forEach(ids, (id) => a.command(`later x-${id} 4000`))
        yield* Effect.repeat(kv.getEntry("x/runners/127.0.0.1:" + a.port), { until: Option.isSome })
        yield* a.command("increment x-begun")
        yield* a.reported((lines) => lines.find((line) => line._tag === "Done" && line.id === "x-begun"))
        const frozen = yield* a.signal("SIGSTOP")
        const b = yield* launch
        const taken = yield* b.owns(all, frozen)
        assert.isTrue((yield* incrementAll(b, "x-")).every((line) => line.how === "1"))
        yield* a.signal("SIGCONT")
        const late = yield* a.reported((lines) => {
          const done = lines.filter((line): line is Done => line._tag === "Done" && line.id !== "x-begun")
          return done.length >= 2 * ids.length ? done : undefined
        })
        yield* Effect.forEach([a, b], (runner) => runner.owns((owned) => owned > 100 && owned < 200, frozen + taken))
        const history = yield* historyOf(cluster)
        assert.deepStrictEqual(violations(history, "x", fenced), [])
        assert.isTrue(late.every((line) => line.type === "unfenced" || line.how !== "written"))
        const wrong = violations(history, "x", unfenced)
        assert.isAbove(wrong.length, 0, "without the fence the store accepts such writes")
        assert.isTrue(wrong.every(({ kind }) => kind === "WriteWithoutLock"))
      }),
    60_000
  )

  it.live(
    "etcd that is away for longer than the leases: nothing runs, and all is back within a second of its return",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make()
        const launch = start({ endpoint: cluster.endpoints[0]!, prefix: "x", shards })
        const a = yield* launch
        yield* a.owns(all, 0)
        const b = yield* launch
        yield* Effect.forEach([a, b], (runner) => runner.owns((owned) => owned > 100 && owned < 200, 0))
        yield* cluster.member.kill
        const away = Date.now()
        yield* Effect.forEach([a, b], (runner) => runner.owns((owned) => owned === 0, away))
        yield* Effect.sleep("9 seconds")
        yield* cluster.member.start
        const back = Date.now()
        const after = yield* Effect.forEach(
          [a, b],
          (runner) => runner.owns((owned) => owned > 100 && owned < 200, back),
          { concurrency: "unbounded" }
        )
        assert.isTrue((yield* incrementAll(b, "x-")).every((line) => line.how === "1"))
        assert.deepStrictEqual(violations(yield* historyOf(cluster), "x", fenced), [])
        assert.isBelow(Math.max(...after), atOnce)
      }),
    60_000
  )
})
