/**
 * A process that consumes a backlog slowly and then fast, beside a fast watch, and reports its memory use and delays.
 *
 * Arguments: endpoint, prefix of the backlog, its first revision, its last revision, seconds of slow consumption. The
 * parent process keeps writing the current time to `PREFIX/live` for the fast watch until this process has ended.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

const [endpoint, prefix, first, last, seconds] = process.argv.slice(2) as [string, string, string, string, string]

const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.put("warm", "up")
  const sibling = yield* backendOf(kv).watch({ range: KeyRange.key(`${prefix}live`) })
  const delays: Array<number> = []
  const fast = yield* Effect.forkChild(Effect.forever(Effect.map(sibling.take, (batches) => {
    for (const { events } of batches) {
      for (const event of events) if (event._tag === "Put") delays.push(Date.now() - Number(event.entry.lossyText))
    }
  })))
  // The first event shows that everything is loaded and connected.
  while (delays.length === 0) yield* Effect.sleep("10 millis")
  globalThis.gc?.()
  const before = process.memoryUsage().rss
  let peak = before
  const look = Effect.sync(() => {
    peak = Math.max(peak, process.memoryUsage().rss)
  })
  yield* Effect.forkChild(Effect.forever(Effect.andThen(look, Effect.sleep("5 millis"))))

  const watcher = yield* backendOf(kv).watch({ range: KeyRange.prefix(`${prefix}log/`), startRevision: BigInt(first) })
  const slowUntil = Date.now() + Number(seconds) * 1000
  let events = 0
  let revision = BigInt(first) - 1n
  let wrong = 0
  let atEndOfSlow = 0
  while (revision < BigInt(last)) {
    for (const batch of yield* watcher.take) {
      if (batch.revision <= revision) wrong++
      revision = batch.revision
      for (const event of batch.events) {
        if (event.key !== `${prefix}log/${events % 10}` || event._tag !== "Put" || event.entry.size !== 10_000) wrong++
        events++
        if (Date.now() < slowUntil) {
          yield* Effect.sleep("10 millis")
          atEndOfSlow = events
        }
      }
    }
  }
  yield* look
  yield* Fiber.interrupt(fast)
  delays.sort((a, b) => a - b)
  return {
    events,
    wrong,
    atEndOfSlow,
    grownMiB: (peak - before) / 1024 / 1024,
    siblings: delays.length,
    siblingMedian: delays[Math.floor(delays.length / 2)],
    siblingP90: delays[Math.floor(delays.length * 0.9)],
    siblingWorst: delays.at(-1)
  }
})

const result = await Effect.runPromise(
  Effect.provide(Effect.scoped(program), EtcdLayer.layer({ endpoints: [endpoint] }))
)
process.stdout.write(JSON.stringify(result))
