/**
 * Watches that are open through all faults. The recorder records what they deliver.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import type * as Watch from "@effect-kv/core/Watch"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as SeededRandom from "../SeededRandom.ts"
import type { RecordedClient } from "./Worker.ts"

/** A watch of one range that runs until it is interrupted. */
export interface WatchPlan {
  readonly range: KeyRange.KeyRange
  readonly previous?: boolean | undefined
  readonly only?: "Put" | "Delete" | undefined
  /** Whether it is closed from time to time and opened again after its last revision. */
  readonly restless: boolean
  /** Whether it reads slowly. */
  readonly slow: boolean
}

/** What each client watches. */
export const plans = (prefix: string): ReadonlyArray<WatchPlan> => [
  { range: KeyRange.prefix(prefix), restless: false, slow: false },
  { range: KeyRange.prefix(`${prefix}register/`), previous: true, restless: true, slow: false },
  // Another range than the view's, so the history can tell the two watches apart.
  { range: KeyRange.halfOpen(`${prefix}txn/`, `${prefix}txn/~`), restless: false, slow: true },
  { range: KeyRange.halfOpen(`${prefix}a`, `${prefix}m`), only: "Delete", restless: true, slow: false }
]

/** Whether a watched range is one of these plans, or that of the view of `txn/`. */
export const isOfBusyKeys = (range: KeyRange.KeyRange): boolean =>
  range._tag !== "Key" &&
  /^(?:[^/]*\/(?:register\/|txn\/|a)?)?$/.test(range._tag === "Prefix" ? range.from : range.start)

/** How far a watch has come, for the final wait. */
export interface Position {
  revision: bigint
}

/** Watches indefinitely. If the watch ends with an expected error, it is opened again. */
export const watching = (
  client: RecordedClient,
  plan: WatchPlan,
  random: SeededRandom.SeededRandom,
  position: Position
): Effect.Effect<never, KvError> => {
  const session = (startRevision: bigint | undefined) =>
    Effect.scoped(Effect.gen(function*() {
      const watcher = yield* backendOf(client.kv).watch({
        range: plan.range,
        ...(startRevision === undefined ? {} : { startRevision }),
        ...(plan.previous === undefined ? {} : { previous: plan.previous }),
        ...(plan.only === undefined ? {} : { only: plan.only })
      })
      if (position.revision < watcher.revision) position.revision = watcher.revision
      const reading = Effect.forever(read(watcher, plan, position))
      yield* plan.restless ? Effect.timeoutOption(reading, random.int(300, 4000)) : reading
    }))
  const go = (startRevision: bigint | undefined): Effect.Effect<never, KvError> =>
    session(startRevision).pipe(
      Effect.catch((error) => {
        switch (error.reason._tag) {
          case "Compacted":
            return Effect.sync(() =>
              void (position.revision = error.reason._tag === "Compacted"
                ? Option.getOrThrow(error.reason.compactRevision)
                : position.revision)
            )
          case "Unavailable":
          case "DeadlineExceeded":
            return Effect.sleep("100 millis")
          default:
            return Effect.fail(error)
        }
      }),
      Effect.andThen(Effect.suspend(() => go(position.revision === 0n ? undefined : position.revision + 1n)))
    )
  return go(undefined)
}

const read = (watcher: Watch.Watcher, plan: WatchPlan, position: Position): Effect.Effect<void, KvError> =>
  Effect.flatMap(watcher.take, (batches) => {
    position.revision = batches[batches.length - 1]!.revision
    return plan.slow ? Effect.sleep("40 millis") : Effect.void
  })
