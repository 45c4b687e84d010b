/**
 * The memory backend: gets and puts against a `Map` and Effect's `KeyValueStore`; puts beside watches that do not match.
 */
import { KeyRange, Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { KeyValueStore } from "effect/persistence"
import * as Measure from "../Measure.ts"
import type { Scenario } from "../Scenario.ts"
import * as Subjects from "../Subjects.ts"

const liveKeys = 100_000

/** Operations between two looks at the clock: a look costs as much as some of them. */
const batch = 1000

const memory = Effect.map(Layer.build(MemoryLayer.layer), (context) => Context.get(context, Kv.Kv))

const rowsOf = Effect.fnUntraced(function*(
  scenario: string,
  inFlight: number,
  subjects: ReadonlyArray<{ readonly name: string; readonly op: (i: number) => Effect.Effect<unknown, unknown> }>,
  options: Measure.Options
) {
  const repeated = subjects.map(({ name, op }): Measure.Subject => {
    let next = 0
    return {
      name,
      op: () =>
        Effect.gen(function*() {
          for (let i = 0; i < batch; i++) yield* op(next++)
        })
    }
  })
  const rows = yield* Measure.alternate(scenario, inFlight, repeated, options)
  return rows.map((row): Measure.Row => ({
    ...row,
    opsPerSecond: row.opsPerSecond * batch,
    p50Ms: row.p50Ms / batch,
    p99Ms: row.p99Ms / batch,
    cpuMicrosPerOp: row.cpuMicrosPerOp / batch
  }))
})

export const store: Scenario = {
  name: "memory",
  run: Effect.fnUntraced(function*({ options }) {
    const kv = yield* memory
    const peer = Context.get(yield* Layer.build(KeyValueStore.layerMemory), KeyValueStore.KeyValueStore)
    const map = new Map<string, string>()
    const keys = Array.from({ length: liveKeys }, (_, i) => `bench/${i}`)
    const key = (i: number) => keys[(i * 7919) % liveKeys]!
    for (const key of keys) {
      map.set(key, Subjects.value)
      yield* kv.put(key, Subjects.value)
      yield* peer.set(key, Subjects.value)
    }
    const get = yield* rowsOf("memory get", 1, [
      { name: "KeyValueStore", op: (i) => peer.get(key(i)) },
      { name: "Map", op: (i) => Effect.sync(() => map.get(key(i))) },
      { name: "effect-kv", op: (i) => kv.get(key(i)) }
    ], options)
    const put = yield* rowsOf("memory put", 1, [
      { name: "KeyValueStore", op: (i) => peer.set(key(i), Subjects.value) },
      { name: "Map", op: (i) => Effect.sync(() => map.set(key(i), Subjects.value)) },
      { name: "effect-kv", op: (i) => kv.put(key(i), Subjects.value) }
    ], options)
    return [...get, ...put]
  })
}

export const watchedPuts: Scenario = {
  name: "memory-watch",
  run: Effect.fnUntraced(function*({ options }) {
    const subjects: Array<{ readonly name: string; readonly op: (i: number) => Effect.Effect<unknown, unknown> }> = []
    for (const watches of [0, 1000, 10_000]) {
      const kv = yield* memory
      for (let i = 0; i < watches; i++) {
        yield* kv.subscribe(i % 2 === 0 ? `other/${i}` : KeyRange.prefix(`elsewhere/${i}/`))
      }
      subjects.push({ name: `${watches} idle watches`, op: (i) => kv.put(`bench/${i % 1000}`, Subjects.value) })
    }
    return yield* rowsOf("memory put beside watches", 1, subjects, options)
  })
}
