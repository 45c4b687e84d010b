/**
 * A counter and a sequence: workers number the records that they import, and count them together.
 *
 *     node examples/src/ImportCounter.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/ImportCounter.ts
 */
import { Counter, KeyRange, Kv, type KvError, Sequence } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as StoreByUrl from "./StoreByUrl.ts"

/** Imports some records, and returns their numbers. */
export const worker = (records: number): Effect.Effect<ReadonlyArray<bigint>, KvError.KvError, Kv.Kv> =>
  Effect.scoped(Effect.gen(function*() {
    const imported = yield* Counter.make("imported")
    const ids = yield* Sequence.dense("records", { block: 5 })
    const numbers: Array<bigint> = []
    for (let i = 0; i < records; i++) {
      numbers.push(yield* ids.next)
      yield* imported.add(1)
    }
    return numbers
  }))

export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.deleteRange(KeyRange.all)
  const numbers = yield* Effect.all([worker(10), worker(20), worker(5)], { concurrency: "unbounded" })
  yield* Console.log(`numbers: ${new Set(numbers.flat()).size}`)
  yield* Console.log(`imported: ${yield* Counter.get("imported")}`)
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(
      Effect.provide(Kv.layerPrefixed("examples/import-counter/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
