/**
 * A custom recipe: a road with a single lane. At any time all traffic goes in one direction, and drivers are admitted in
 * the order in which they came.
 *
 *     node examples/src/OneWay.ts
 *     KV_URL=http://127.0.0.1:2379 node examples/src/OneWay.ts
 */
import { Kv } from "@effect-kv/core"
import { Queue } from "@effect-kv/core/recipe"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as StoreByUrl from "./StoreByUrl.ts"

export type Direction = "east" | "west"

/** The rule: a driver who goes east waits until no driver who goes west is ahead, and vice versa. */
const queueOf = (name: string, direction: Direction): Queue.Queue =>
  Queue.behind({
    name,
    prefix: `${name}/${direction}/`,
    ahead: [`${name}/${direction === "east" ? "west" : "east"}/`]
  })

/** Runs the effect on the road: fenced, and interrupted when the place on it is lost. */
export const withDirection =
  (name: string, direction: Direction, options?: Queue.Options) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Queue.use([queueOf(name, direction)], () => effect, options)

/** Eight drivers. Returns the most that were on the road at once, and whether two of them met. */
export const program = Effect.gen(function*() {
  const onRoad: Record<Direction, number> = { east: 0, west: 0 }
  let most = 0
  let haveMet = false
  const drive = (direction: Direction) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        most = Math.max(most, ++onRoad[direction])
        haveMet ||= onRoad.east > 0 && onRoad.west > 0
      }),
      () => Effect.sleep("50 millis"),
      () => Effect.sync(() => onRoad[direction]--)
    ).pipe(withDirection("road", direction))
  yield* Effect.forEach(
    ["east", "east", "east", "west", "west", "east", "west", "west"] as const,
    drive,
    { concurrency: "unbounded" }
  )
  return { most, haveMet }
})

if (process.argv[1] === import.meta.filename) {
  NodeRuntime.runMain(
    Effect.flatMap(
      program,
      ({ haveMet, most }) =>
        Console.log(`at most ${most} at once, and ${haveMet ? "two of them met" : "no two of them met"}`)
    ).pipe(
      Effect.provide(Kv.layerPrefixed("examples/one-way/")),
      Effect.provide(StoreByUrl.layer)
    )
  )
}
