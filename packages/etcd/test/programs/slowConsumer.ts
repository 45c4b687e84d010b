/**
 * A process that consumes a backlog slowly and then fast, beside a fast watch, and reports its live memory and delays.
 *
 * Live memory is what garbage collections leave: the heap, and the buffers outside of it. Resident memory is no measure of
 * it. Between collections V8 lets some 60 MiB of dead buffers accumulate and enlarges its young generation by 30 MiB, and
 * the C library keeps what was freed.
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

/** The memory in MiB that is left after a garbage collection. Dead buffers are freed by the one after it. */
const live = (): number => {
  globalThis.gc!()
  globalThis.gc!()
  const { external, heapUsed } = process.memoryUsage()
  return (heapUsed + external) / 1024 / 1024
}

const quantileOf = (values: ReadonlyArray<number>, part: number): number | undefined =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * part)]

const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.put("warm", "up")
  const sibling = yield* backendOf(kv).watch({ range: KeyRange.key(`${prefix}live`) })
  const delays: Array<number> = []
  let lookedAt = 0
  const fast = yield* Effect.forkChild(Effect.forever(Effect.map(sibling.take, (batches) => {
    for (const { events } of batches) {
      for (const event of events) {
        const writtenAt = event._tag === "Put" ? Number(event.entry.lossyText) : 0
        // A collection that this program requests also delays the fast watch.
        if (writtenAt > lookedAt) delays.push(Date.now() - writtenAt)
      }
    }
  })))
  // The first event shows that everything is loaded and connected.
  while (delays.length === 0) yield* Effect.sleep("10 millis")
  const before = live()
  const keptWhileSlow: Array<number> = []
  let kept = 0

  const watcher = yield* backendOf(kv).watch({ range: KeyRange.prefix(`${prefix}log/`), startRevision: BigInt(first) })
  const slowUntil = Date.now() + Number(seconds) * 1000
  const look = Effect.sync(() => {
    const now = live() - before
    kept = Math.max(kept, now)
    if (Date.now() < slowUntil) keptWhileSlow.push(now)
    lookedAt = Date.now()
  })
  yield* Effect.forkChild(Effect.forever(Effect.andThen(Effect.sleep("1 second"), look)))
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
  yield* Fiber.interrupt(fast)
  return {
    events,
    wrong,
    atEndOfSlow,
    keptWhileSlow: quantileOf(keptWhileSlow, 0.5),
    kept,
    siblings: delays.length,
    siblingMedian: quantileOf(delays, 0.5),
    siblingP90: quantileOf(delays, 0.9)
  }
})

const result = await Effect.runPromise(
  Effect.provide(Effect.scoped(program), EtcdLayer.layer({ endpoints: [endpoint] }))
)
process.stdout.write(JSON.stringify(result))
