/**
 * Workers that compute epoch by epoch: none begins an epoch before all have finished the one before. They start when an
 * operator opens the gate.
 *
 *     node examples/src/EpochBarrier.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/EpochBarrier.ts
 */
import { Barrier, KeyRange, Kv, Latch } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as StoreByUrl from "./StoreByUrl.ts"

/** Waits at the gate, then runs the work of each epoch when all workers have reached it. */
export const worker = <E, R>(
  id: string,
  { epochs, workers }: { readonly epochs: number; readonly workers: number },
  work: (epoch: number) => Effect.Effect<void, E, R>
) =>
  Effect.gen(function*() {
    yield* Latch.await("gate", { count: 1 })
    for (let epoch = 0; epoch < epochs; epoch++) {
      // If a worker dies, the others fail with BarrierBroken instead of waiting for it.
      yield* Effect.scoped(Barrier.enter("epochs", { parties: workers, id, onLate: "next" }))
      yield* work(epoch)
    }
  })

/** Three workers, two epochs. */
export const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* kv.deleteRange(KeyRange.all)
  const lines: Array<string> = []
  const print = (line: string) => Effect.andThen(Effect.sync(() => lines.push(line)), Console.log(line))
  const workers = yield* Effect.forEach(["ada", "bert", "cleo"], (name, i) =>
    Effect.forkChild(
      worker(name, { epochs: 2, workers: 3 }, (epoch) =>
        Effect.andThen(Effect.sleep(i * 50), print(`epoch ${epoch}: ${name}`)))
    ))
  yield* print("the gate opens")
  yield* Latch.countDown("gate", { id: "operator" })
  yield* Effect.forEach(workers, Fiber.join)
  return lines
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(Effect.provide(Kv.layerPrefixed("examples/epochs/")), Effect.provide(StoreByUrl.layer))
  )
}
