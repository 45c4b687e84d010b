/**
 * The memory cost of watches: a consumer that hardly reads, and thousands of short-lived watches.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as Op from "@effect-kv/core/Op"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { client } from "./support/client.ts"
import { eventually, watch } from "./support/watching.ts"

/** The report of `programs/slowConsumer.ts`. */
interface Report {
  readonly events: number
  readonly wrong: number
  readonly atEndOfSlow: number
  /** MiB of live memory: the median in the slow phase, and the most at any time. */
  readonly keptWhileSlow: number
  readonly kept: number
  readonly siblings: number
  readonly siblingMedian: number
  readonly siblingP90: number
}

const slowConsumer = (args: ReadonlyArray<string>): Effect.Effect<Report> =>
  Effect.callback((resume) => {
    const file = fileURLToPath(new URL("./programs/slowConsumer.ts", import.meta.url))
    const child = execFile(process.execPath, ["--expose-gc", file, ...args], (error, output) => {
      resume(error === null ? Effect.succeed(JSON.parse(output)) : Effect.die(error))
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const backlog = 50_000
const slowSeconds = 10

/** The number of events in the n-th revision of the backlog. A watch that catches up gets 1000 revisions at once. */
const perRevision = (events: number): number => events < 5000 ? 1 : 10

const writeBacklog = Effect.fnUntraced(function*(kv: Kv.Kv) {
  const value = "x".repeat(10_000)
  const revisions: Array<bigint> = []
  for (let events = 0; events < backlog; events += perRevision(events)) {
    const then = Array.from({ length: perRevision(events) }, (_, i) => Op.put(`p/log/${(events + i) % 10}`, value))
    revisions.push((yield* kv.txn({ then })).revision)
  }
  return { first: revisions[0]!, last: revisions.at(-1)! }
})

describe("a consumer of 100 events a second with a backlog of 50,000 of 10 kB", () => {
  it.live(
    "a slow consumer of a backlog of 500 MB keeps less than 40 MiB in memory, misses nothing, and does not delay another watch",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make({ flags: { "quota-backend-bytes": 4_000_000_000 } })
        const kv = yield* client({ endpoints: cluster.endpoints, deadline: "30 seconds" })
        const { first, last } = yield* writeBacklog(kv)
        // For the fast watch in the same process.
        const writing = yield* Effect.forkChild(Effect.forever(Effect.andThen(
          Effect.suspend(() => kv.put("p/live", `${Date.now()}`)),
          Effect.sleep("20 millis")
        )))
        const report = yield* slowConsumer([cluster.endpoints[0]!, "p/", `${first}`, `${last}`, `${slowSeconds}`])
        yield* Fiber.interrupt(writing)
        assert.strictEqual(report.events, backlog)
        assert.strictEqual(report.wrong, 0)
        assert.isBelow(report.atEndOfSlow, 1100)
        // What is buffered (here a response of 10 MB, because those of up to 4 MiB go on top of it) and a take (4 MiB).
        assert.isBelow(report.keptWhileSlow, 18)
        // What is buffered (16 MiB and a fragment), a take, twice while it is decoded, and a response that arrives (10 MB).
        assert.isBelow(report.kept, 40)
        assert.isBelow(report.siblingMedian, 100)
        assert.isBelow(report.siblingP90, 500)
      }),
    180_000
  )
})

describe("watches that come and go", () => {
  it.live(
    "short-lived watches leave nothing on the server and nothing in memory, closed or interrupted while opening",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make()
        const kv = yield* client({ endpoints: cluster.endpoints })
        const openAndClose = (count: number) =>
          Effect.forEach(Array.from({ length: count }, (_, i) => i), (i) =>
            Effect.gen(function*() {
              const opening = yield* Effect.forkChild(Effect.scoped(
                Effect.andThen(
                  watch(kv, KeyRange.prefix(`${i}/`), { startRevision: i % 3 === 0 ? 1n : undefined }),
                  Effect.never
                )
              ))
              // Some are interrupted before they have opened, some after.
              for (let k = 0; k < i % 7; k++) yield* Effect.yieldNow
              if (i % 5 === 0) yield* Effect.sleep("2 millis")
              yield* Fiber.interrupt(opening)
            }), { concurrency: 20 })
        yield* watch(kv, KeyRange.key("stays"))
        yield* openAndClose(1000)
        yield* eventually(Effect.map(watchersOf(cluster), (count) => count === 1))
        const before = yield* heapUsed
        for (let round = 0; round < 5; round++) yield* openAndClose(1000)
        yield* eventually(Effect.map(watchersOf(cluster), (count) => count === 1))
        const after = yield* heapUsed
        assert.isBelow(after - before, 2)
      }),
    60_000
  )
})

const watchersOf = (cluster: typeof EtcdCluster.EtcdCluster.Service) =>
  Effect.map(cluster.metrics(), (metrics) => metrics.get("etcd_debugging_mvcc_watcher_total"))

/** The heap in MiB after a garbage collection. */
const heapUsed = Effect.sync(() => {
  setFlagsFromString("--expose-gc")
  const gc = runInNewContext("gc") as () => void
  gc()
  gc()
  return process.memoryUsage().heapUsed / 1024 / 1024
})
