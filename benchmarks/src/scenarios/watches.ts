/**
 * Watches on etcd: the replay of a long history into a `Stream`, against the raw stream of the `etcd3` package; and how
 * long an event takes from the put to the watcher.
 */
import { KeyRange, Op } from "@effect-kv/core"
import type { Kv } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { Etcd3 } from "etcd3"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as Subjects from "../Subjects.ts"

const prefix = "bench/replay/"
const perTxn = 100

export const replay: Scenario = {
  name: "watch",
  run: Effect.fnUntraced(function*({ etcd, options, quick }) {
    const kv = yield* Subjects.effectKv(etcd.endpoints)
    const client = yield* Subjects.etcd3(etcd.endpoints)
    const total = quick ? 20_000 : 100_000
    const first = yield* load(kv, total)
    const rows: Array<Measure.Row> = []
    for (const watches of [1, 64]) {
      const each = Math.ceil(total / watches)
      const raw: Array<Measure.Round> = []
      const ours: Array<Measure.Round> = []
      for (let i = 0; i < options.rounds; i++) {
        raw.push(yield* timed(each * watches, replayRaw(client, first, watches, each)))
        ours.push(yield* timed(each * watches, replayOurs(kv, first, watches, each)))
      }
      rows.push(Measure.toRow("watch", "etcd3 raw", watches, raw), Measure.toRow("watch", "effect-kv", watches, ours))
    }
    return rows
  })
}

const load = Effect.fnUntraced(function*(kv: Kv.Kv, total: number) {
  let first: bigint | undefined
  for (let i = 0; i < total; i += perTxn) {
    const puts = Array.from({ length: perTxn }, (_, k) => Op.put(`${prefix}${k}`, Subjects.value))
    const { revision } = yield* kv.txn({ then: puts })
    first ??= revision
  }
  return first ?? 1n
})

const timed = <E>(count: number, effect: Effect.Effect<void, E>) =>
  Effect.suspend(() => {
    const started = performance.now()
    const cpu = process.cpuUsage()
    return Effect.map(effect, () => Measure.whole(count, performance.now() - started, process.cpuUsage(cpu)))
  })

const replayOurs = (kv: Kv.Kv, startRevision: bigint, watches: number, each: number) =>
  Effect.forEach(
    Array.from({ length: watches }),
    () => kv.watch(KeyRange.prefix(prefix), { startRevision }).pipe(Stream.take(each), Stream.runDrain),
    { concurrency: "unbounded", discard: true }
  )

const replayRaw = (client: Etcd3, startRevision: bigint, watches: number, each: number) =>
  Effect.callback<void>((resume) => {
    const open = client.watchClient.watch()
    const counts = new Map<string, number>()
    let done = 0
    void open.then((stream) => {
      stream.on("error", () => {})
      stream.on("data", (response: { readonly watch_id: string; readonly events: ReadonlyArray<unknown> }) => {
        const before = counts.get(response.watch_id) ?? 0
        counts.set(response.watch_id, before + response.events.length)
        if (before < each && before + response.events.length >= each && ++done === watches) {
          stream.end()
          stream.cancel()
          resume(Effect.void)
        }
      })
      for (let id = 1; id <= watches; id++) {
        stream.write({
          create_request: {
            key: Buffer.from(prefix),
            range_end: Buffer.from(`${prefix.slice(0, -1)}0`),
            start_revision: `${startRevision}`,
            watch_id: `${id}`
          }
        })
      }
    })
  })

export const latency: Scenario = {
  name: "watch-latency",
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const kv = yield* Subjects.effectKv(etcd.endpoints)
    const client = yield* Subjects.etcd3(etcd.endpoints)
    const ours = yield* Queue.unbounded<void>()
    const theirs = yield* Queue.unbounded<void>()
    const subscription = yield* kv.subscribe("bench/latency/ours")
    yield* subscription.events.pipe(Stream.runForEach(() => Queue.offer(ours, undefined)), Effect.forkScoped)
    const watcher = yield* Effect.acquireRelease(
      Effect.promise(() => client.watch().key("bench/latency/theirs").create()),
      (watcher) => Effect.promise(() => watcher.cancel())
    )
    watcher.on("put", () => {
      Queue.offerUnsafe(theirs, undefined)
    })
    const subjects: ReadonlyArray<Measure.Subject> = [
      { name: "put alone", op: () => kv.put("bench/latency/none", Subjects.value) },
      {
        name: "effect-kv",
        op: () => Effect.all([kv.put("bench/latency/ours", Subjects.value), Queue.take(ours)], { concurrency: 2 })
      },
      {
        name: "etcd3",
        op: () => Effect.all([kv.put("bench/latency/theirs", Subjects.value), Queue.take(theirs)], { concurrency: 2 })
      }
    ]
    return yield* Measure.alternate("watch-latency", 1, subjects, options)
  })
}
