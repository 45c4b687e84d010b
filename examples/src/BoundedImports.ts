/**
 * Imports into a database that bears only three at once, from any number of instances. Large imports take two permits.
 *
 *     node examples/src/BoundedImports.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/BoundedImports.ts
 */
import { DistSemaphore, Kv } from "@effect-kv/core"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as StoreByUrl from "./StoreByUrl.ts"

/** How many permits the database bears, in all processes together. */
export const limit = 3

/** The imports of this instance. */
export class Imports extends Context.Service<Imports, {
  /** Runs an import while the database has room for it, after those that came before. */
  readonly run: <A, E, R>(
    name: string,
    size: "small" | "large",
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | DistSemaphore.Failure, R>
}>()("examples/Imports") {
  static readonly layer = Layer.effect(Imports)(
    Effect.map(DistSemaphore.make("imports", { permits: limit }), (semaphore) => ({
      run: (name, size, effect) =>
        semaphore.withPermits(size === "large" ? 2 : 1, {
          acquireTimeout: "1 minute", // then fails with LockTimeout
          maxHold: "10 minutes", // then it is interrupted and fails with LockHoldExceeded
          description: name // for operators: holders, waiters
        })(effect)
    }))
  )
}

/** Six imports that start at once. */
export const program = Effect.gen(function*() {
  const imports = yield* Imports
  let running = 0
  let most = 0
  const work = (name: string, weight: number) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        running += weight
        most = Math.max(most, running)
      }),
      () => Effect.andThen(Console.log(`${name} is imported`), Effect.sleep("100 millis")),
      () => Effect.sync(() => running -= weight)
    )
  yield* Effect.forEach(
    ["ada", "bert", "cleo", "dora", "emil", "fay"],
    (name, i) => imports.run(name, i % 3 === 0 ? "large" : "small", work(name, i % 3 === 0 ? 2 : 1)),
    { concurrency: "unbounded" }
  )
  return most
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    Effect.flatMap(program, (most) => Console.log(`at most ${most} of ${limit} permits were used`)).pipe(
      Effect.provide(Imports.layer),
      Effect.provide(Kv.layerPrefixed("examples/bounded-imports/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
