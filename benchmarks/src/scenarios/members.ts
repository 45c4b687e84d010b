/**
 * A view of 1,000 members on etcd while their values change 2,000 times a second: how long a change takes from its put
 * until a snapshot shows it, and whether memory grows.
 *
 * The pace is fixed, so `ops/s` is the pace if the view stays current.
 */
import { Kv, Members } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Measure from "../Measure.ts"
import { type Row, rowsOf } from "../Row.ts"
import type { Scenario } from "../Scenario.ts"
import * as effectKv from "../subjects/effectKv.ts"
import { memoryUsed } from "./heap.ts"

const members = 1000
const changesPerSecond = 2000
const name = "bench/members"

export const view: Scenario = {
  name: "members",
  run: Effect.fnUntraced(function*({ etcd, goals, quick }) {
    const { endpoints } = yield* etcd
    const kv = yield* effectKv.open(endpoints)
    const put = (change: number) => kv.put(`${name}/${change % members}`, JSON.stringify(change))
    yield* Effect.forEach(Array.from({ length: members }, (_, i) => i), put, { concurrency: 64, discard: true })

    const empty = yield* memoryUsed
    const scope = yield* Scope.make()
    const opened = yield* Members.view(name, Schema.Int).pipe(
      Effect.provideService(Kv.Kv, yield* effectKv.open(endpoints)),
      Scope.provide(scope)
    )
    const eachBytes = ((yield* memoryUsed) - empty) / members
    const seconds = quick ? 1 : goals ? 5 : 20
    // Until code is compiled and buffers have their size.
    yield* change(opened, put, members, seconds)
    const before = yield* memoryUsed
    const round = yield* change(opened, put, members * 1000, seconds)
    const growthBytes = (yield* memoryUsed) - before
    yield* Scope.close(scope, Exit.void)
    const [row] = rowsOf("members", 1, new Map([[`view of ${members}`, [round]]])) as [Row]
    return [{ ...row, memory: { eachBytes, cycles: changesPerSecond * seconds, growthBytes } }]
  })
}

/** Changes values at the pace, from a number on, until the view has shown the last of them. */
const change = Effect.fnUntraced(function*(
  view: Members.View<number>,
  put: (change: number) => Effect.Effect<unknown, unknown>,
  first: number,
  seconds: number
) {
  const count = changesPerSecond * seconds
  const sent = new Float64Array(count)
  const shown = new Array<number>(members).fill(-1)
  const watch = new Measure.Stopwatch()
  let missing = count
  const following = yield* view.changes.pipe(
    Stream.takeWhile((snapshot) => {
      for (const value of snapshot.members.values()) {
        const change = Result.getOrThrow(value) - first
        if (change < 0 || shown[change % members]! >= change) continue
        shown[change % members] = change
        watch.lap(sent[change]!)
        if (change >= count - members) missing -= 1
      }
      return missing > count - Math.min(members, count)
    }),
    Stream.runDrain,
    Effect.forkScoped
  )
  const perTick = 20
  const tickMillis = perTick / changesPerSecond * 1000
  for (let next = 0; next < count;) {
    const due = Math.min(count, Math.ceil((performance.now() - watch.started) / tickMillis) * perTick)
    for (; next < due; next++) {
      sent[next] = performance.now()
      yield* Effect.forkScoped(put(first + next))
    }
    yield* Effect.sleep(tickMillis)
  }
  yield* Fiber.join(following)
  return watch.stop()
})
