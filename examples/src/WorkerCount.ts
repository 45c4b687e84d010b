/**
 * Service discovery: each running instance registers a temporary key, and the keys are counted.
 *
 *     node examples/src/WorkerCount.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/WorkerCount.ts
 */
import { KeyRange, Kv, type KvError, RangeView, TempKey } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as StoreByUrl from "./StoreByUrl.ts"

const workers = KeyRange.prefix("workers/")

/** Registers the instance until the scope closes, or, after a crash, until the time to live has passed. */
export const register = (
  name: string
): Effect.Effect<TempKey.TempKey, KvError.KvError | TempKey.TempKeyTaken, Kv.Kv | Scope.Scope> =>
  TempKey.make(`workers/${name}`, { value: name, ttl: "10 seconds" })

/** How many instances are running. */
export const count: Effect.Effect<number, KvError.KvError, Kv.Kv> = Kv.count(workers)

/** The names of the running instances: now, then after each change. */
export const running: Stream.Stream<ReadonlyArray<string>, KvError.KvError, Kv.Kv> = Stream.unwrap(
  Effect.gen(function*() {
    const latest = yield* RangeView.make(workers)
    return Stream.mapEffect(
      latest.changes,
      ({ entries }) => Effect.map(Effect.forEach(entries.values(), (entry) => entry.text), (names) => names.sort())
    )
  })
)

/** Three workers start and stop. */
export const program = Effect.gen(function*() {
  for (const [index, name] of ["ada", "bert", "cleo"].entries()) {
    yield* register(name).pipe(
      Effect.andThen(Effect.sleep("400 millis")),
      Effect.scoped,
      Effect.delay(200 * (index + 1)),
      Effect.forkScoped
    )
  }
  let sawAny = false
  yield* running.pipe(
    Stream.takeUntil((names) => {
      sawAny ||= names.length > 0
      return sawAny && names.length === 0
    }),
    Stream.runForEach((names) => Console.log(`running: ${names.length} ${names.join(" ")}`.trimEnd()))
  )
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    program.pipe(
      Effect.scoped,
      Effect.provide(Kv.layerPrefixed("examples/worker-count/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
