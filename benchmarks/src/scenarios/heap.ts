/**
 * The memory of what a program keeps open on etcd: an idle client, an idle watch, a held lock; and whether memory grows
 * while they come and go.
 *
 * Memory is the heap and the buffers outside of it, after a full garbage collection. An operation is one that is opened
 * and closed again.
 */
import { DistLock, Kv } from "@effect-kv/core"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Measure from "../Measure.ts"
import { type Row, rowsOf } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as effectKv from "../subjects/effectKv.ts"

interface Subject {
  readonly name: string
  /** Opens the `i`th, until the scope closes. */
  readonly open: (i: number) => Effect.Effect<unknown, unknown, Scope.Scope>
  /** How many are open at the same time to weigh them. */
  readonly count: number
  readonly cycles: number
}

export const heap: Scenario = {
  name: "heap",
  run: Effect.fnUntraced(function*({ etcd, goals, quick }) {
    const { endpoints } = yield* etcd
    const kv = yield* effectKv.open(endpoints)
    const times = quick ? 0.01 : goals ? 0.1 : 1
    const subjects: ReadonlyArray<Subject> = [
      {
        name: "idle client",
        open: () => Effect.flatMap(effectKv.open(endpoints), (client) => client.get("bench/heap")),
        count: 100,
        // More would use up the ports of the machine, which it keeps for a minute after a connection was closed.
        cycles: 5000 * times
      },
      {
        name: "idle watch",
        open: (i) => kv.subscribe(KeyRange.key(`bench/heap/watched/${i}`)),
        count: 1000,
        cycles: 100_000 * times
      },
      {
        name: "held lock",
        open: (i) => Effect.provideService(DistLock.acquire(`bench/heap/locks/${i}`), Kv.Kv, kv),
        count: 1000,
        cycles: 100_000 * times
      }
    ]
    return yield* Effect.forEach(subjects, weigh)
  })
}

const concurrency = 16

const weigh = Effect.fnUntraced(function*({ count, cycles, name, open }: Subject) {
  const numbers = (length: number) => Array.from({ length }, (_, i) => i)
  const cycle = (i: number) => Effect.scoped(open(i % concurrency))
  yield* Effect.forEach(numbers(cycles / 10), cycle, { concurrency, discard: true })

  const empty = yield* memoryUsed
  const scope = yield* Scope.make()
  yield* Effect.forEach(numbers(count), (i) => Scope.provide(open(i), scope), { concurrency, discard: true })
  const heapBytes = ((yield* memoryUsed) - empty) / count
  yield* Scope.close(scope, Exit.void)

  const before = yield* memoryUsed
  const watch = new Measure.Stopwatch()
  const timed = (i: number) =>
    Effect.suspend(() => {
      const started = performance.now()
      return Effect.andThen(cycle(i), Effect.sync(() => watch.lap(started)))
    })
  yield* Effect.forEach(numbers(cycles), timed, { concurrency, discard: true })
  const round = watch.stop()
  const growthBytes = (yield* memoryUsed) - before
  const [row] = rowsOf("heap", 1, new Map([[name, [round]]])) as [Row]
  return { ...row, memory: { eachBytes: heapBytes, cycles, growthBytes } }
})

const collectGarbage: () => void = (() => {
  setFlagsFromString("--expose-gc")
  return runInNewContext("gc") as () => void
})()

const memoryNow = Effect.delay(
  Effect.sync(() => {
    collectGarbage()
    const { external, heapUsed } = process.memoryUsage()
    return heapUsed + external
  }),
  "1500 millis"
)

/** What is closed is gone a moment later, on a busy machine some moments: the lowest of at most four readings. */
export const memoryUsed = Effect.gen(function*() {
  let lowest = yield* memoryNow
  for (let i = 0; i < 3; i++) {
    const next = yield* memoryNow
    const isSettled = next > lowest * 0.99
    lowest = Math.min(lowest, next)
    if (isSettled) break
  }
  return lowest
})
