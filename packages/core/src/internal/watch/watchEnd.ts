/**
 * The warning for a watch that has failed: many watches run in fibers whose failure no one observes.
 */
import * as Effect from "effect/Effect"
import type { KeyRange } from "../../values/KeyRange.ts"
import type { KvError } from "../../values/KvError.ts"
import type { Watcher } from "../../values/Watch.ts"
import { describeRange } from "../values/describeRange.ts"

/** Logs the failure that ended a watch. Logs nothing if its client or its scope was closed. */
export const warn = (range: KeyRange, error: KvError): Effect.Effect<void> =>
  error.reason._tag === "Closed"
    ? Effect.void
    : Effect.logWarning("effect-kv: watch failed", error.message).pipe(
      Effect.annotateLogs({ range: describeRange(range), reason: error.reason._tag })
    )

/** Logs the failure of a watcher once, even if `take` runs again after that. */
export const warned = (range: KeyRange, watcher: Watcher): Watcher => {
  let isLogged = false
  return {
    ...watcher,
    take: Effect.tapError(watcher.take, (error) => {
      if (isLogged) return Effect.void
      isLogged = true
      return warn(range, error)
    })
  }
}
