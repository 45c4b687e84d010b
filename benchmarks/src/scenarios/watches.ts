/**
 * Watches on etcd: the replay of a long history into a `Stream`, against the raw stream of the `etcd3` package; and the
 * time that an event takes from the put to the watcher.
 */
import { KeyRange, Op } from "@effect-kv/core"
import type { Kv } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { Etcd3, IWatchResponse } from "etcd3"
import * as Measure from "../Measure.ts"
import type { Round, Row } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as Calls from "../subjects/Calls.ts"
import * as effectKv from "../subjects/effectKv.ts"
import * as etcd3 from "../subjects/etcd3.ts"
import * as go from "../subjects/go.ts"

const total = 100_000
const perTxn = 100

export const replay: Scenario = {
  name: "watch",
  run: Effect.fnUntraced(function*({ etcd, goals, needed, options }) {
    const { endpoints } = yield* etcd
    const kv = yield* effectKv.open(endpoints)
    const client = yield* etcd3.open(endpoints, { anySize: true })
    const rows: Array<Row> = []
    for (const watches of [1, 64]) {
      const history = yield* load(kv, watches)
      rows.push(
        ...yield* Measure.takeTurns(
          "watch",
          watches,
          goals ? Math.min(options.rounds, 3) : options.rounds,
          needed(watches, [
            { name: "etcd3 raw", round: replayRaw(client, history) },
            { name: "effect-kv", round: replayOurs(kv, history) },
            ...yield* go.replay(endpoints, history)
          ])
        )
      )
    }
    return rows
  })
}

/** The history to replay: so many events for each prefix, from a revision on. */
interface History {
  readonly prefixes: ReadonlyArray<string>
  readonly each: number
  readonly since: bigint
}

/** Writes the history for so many watches. Together they receive all events. */
const load = Effect.fnUntraced(function*(kv: Kv.Kv, watches: number) {
  const prefixes = Array.from({ length: watches }, (_, i) => `bench/replay-${watches}/${i}/`)
  const write = (i: number) =>
    kv.txn({
      then: Array.from(
        { length: perTxn },
        (_, k) => Op.put(`${prefixes[(i + k) % watches]}${i + k}`, Calls.value)
      )
    })
  const { revision: since } = yield* write(0)
  const others = Array.from({ length: total / perTxn - 1 }, (_, i) => (i + 1) * perTxn)
  yield* Effect.forEach(others, write, { concurrency: 8, discard: true })
  return { prefixes, each: Math.floor(total / watches), since }
})

const replayOurs = (kv: Kv.Kv, { each, prefixes, since }: History): Effect.Effect<Round, unknown> =>
  Effect.suspend(() => {
    const watch = new Measure.Stopwatch()
    const one = (prefix: string) =>
      kv.watch(KeyRange.prefix(prefix), { startRevision: since }).pipe(
        Stream.take(each),
        Stream.runForEachArray((events) => Effect.sync(() => watch.arrived(events.length)))
      )
    return Effect.map(
      Effect.forEach(prefixes, one, { concurrency: "unbounded", discard: true }),
      () => watch.stop()
    )
  })

const replayRaw = (client: Etcd3, { each, prefixes, since }: History): Effect.Effect<Round, unknown> =>
  Effect.tryPromise(async () => {
    const watch = new Measure.Stopwatch()
    const stream = await client.watchClient.watch()
    const missing = new Map(prefixes.map((_, i) => [`${i + 1}`, each]))
    await new Promise<void>((resolve, reject) => {
      stream.on("error", reject)
      stream.on("data", ({ events, watch_id }: IWatchResponse) => {
        const before = missing.get(watch_id)
        if (before === undefined) return
        watch.arrived(Math.min(events.length, before))
        if (events.length < before) missing.set(watch_id, before - events.length)
        else missing.delete(watch_id)
        if (missing.size === 0) resolve()
      })
      prefixes.forEach((prefix, i) =>
        stream.write({
          create_request: {
            key: Buffer.from(prefix),
            range_end: Buffer.from(`${prefix.slice(0, -1)}0`),
            start_revision: `${since}`,
            watch_id: `${i + 1}`
          }
        })
      )
    })
    const round = watch.stop()
    stream.end()
    stream.cancel()
    return round
  })

/** One operation: a put, until its response and its event have arrived. */
export const latency: Scenario = {
  name: "watch-latency",
  run: Effect.fnUntraced(function*({ etcd, options }) {
    const { endpoints } = yield* etcd
    const kv = yield* effectKv.open(endpoints)
    const client = yield* etcd3.open(endpoints)
    const ours = yield* Queue.unbounded<void>()
    const theirs = yield* Queue.unbounded<void>()
    const subscription = yield* kv.subscribe(KeyRange.key("bench/latency/ours"))
    yield* subscription.events.pipe(Stream.runForEach(() => Queue.offer(ours, undefined)), Effect.forkScoped)
    const watcher = yield* Effect.acquireRelease(
      Effect.promise(() => client.watch().key("bench/latency/theirs").create()),
      (watcher) => Effect.promise(() => watcher.cancel())
    )
    watcher.on("put", () => {
      Queue.offerUnsafe(theirs, undefined)
    })
    const putAndEvent = (key: string, events: Queue.Queue<void>) => () =>
      Effect.all([kv.put(key, Calls.value), Queue.take(events)], { concurrency: "unbounded", discard: true })
    return yield* Measure.alternate("watch-latency", 1, [
      { name: "put alone", effect: () => kv.put("bench/latency/none", Calls.value) },
      { name: "etcd3", effect: putAndEvent("bench/latency/theirs", theirs) },
      { name: "effect-kv", effect: putAndEvent("bench/latency/ours", ours) }
    ], options)
  })
}
