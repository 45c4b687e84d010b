/**
 * The warning for a watch that has failed: many watches run in fibers whose failure no one observes.
 */
import * as Effect from "effect/Effect"
import type { KeyRange } from "../../values/KeyRange.ts"
import type { KvError } from "../../values/KvError.ts"
import type { Watcher } from "../../values/Watch.ts"
import { describeRange } from "../values/describeRange.ts"

/** Logs that a watch has ended with this failure; nothing if its client or its scope was closed. */
export const warn = (range: KeyRange, error: KvError): Effect.Effect<void> =>
  error.reason._tag === "Closed"
    ? Effect.void
    : Effect.logWarning("effect-kv: watch failed", error.message).pipe(
      Effect.annotateLogs({ range: describeRange(range), reason: error.reason._tag })
    )

/** Logs the failure of a watcher once, however often it is read after that. */
export const warned = (range: KeyRange, watcher: Watcher): Watcher => {
  let isTold = false
  return {
    ...watcher,
    take: Effect.tapError(watcher.take, (error) => {
      if (isTold) return Effect.void
      isTold = true
      return warn(range, error)
    })
  }
}
