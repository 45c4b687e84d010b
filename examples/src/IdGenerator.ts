/**
 * Unique ids without a request for each: every process holds a slot, whose index is the middle part of its ids.
 *
 *     node examples/src/IdGenerator.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/IdGenerator.ts
 */
import { Kv, type KvError, type LockError, Slot } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as StoreByUrl from "./StoreByUrl.ts"

/** Makes ids of a time, the slot and a counter. Fails with the loss of the slot instead of making an id without it. */
export type Generator = Effect.Effect<string, LockError.LockLost>

/**
 * Runs an effect with a generator. At most 1024 run at a time. The cool-down is longer than the clocks of two machines
 * may differ, so that the next holder of an index cannot repeat the ids of the one before.
 */
export const withGenerator = <A, E, R>(
  f: (next: Generator) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | KvError.KvError | LockError.LockLost | Slot.SlotsTaken, R | Kv.Kv> =>
  Slot.use("id-generators", (slot) => f(generator(slot)), { size: 1024, coolDown: "5 seconds" })

const generator = (slot: Slot.Slot): Generator => {
  let last = 0
  let count = 0
  return Effect.flatMap(Clock.currentTimeMillis, (now) => {
    if (!slot.isHeldUnsafe()) return slot.lost
    // A clock that was set back does not repeat a time.
    count = now > last ? 0 : count + 1
    last = Math.max(now, last)
    return Effect.succeed(`${last}-${slot.index}-${count}`)
  })
}

/** Two processes make ids at the same time. */
export const program = Effect.gen(function*() {
  const ids = withGenerator((next) => Effect.andThen(Effect.sleep("200 millis"), Effect.replicateEffect(next, 3)))
  const all = (yield* Effect.all([ids, ids], { concurrency: "unbounded" })).flat()
  yield* Console.log(`${all.length} ids, ${new Set(all).size} different, for example ${all[0]}`)
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(
      Effect.provide(Kv.layerPrefixed("examples/id-generator/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
