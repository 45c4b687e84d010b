/**
 * The deadline of each call to the store.
 *
 * Every call has a deadline: that of the layer (default: 5 seconds), or a shorter one set here.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"

/** The deadline of the fiber's calls, counted from the start of each call; `undefined` for that of the layer. */
export const Deadline: Context.Reference<Duration.Duration | undefined> = Context.Reference(
  "@effect-kv/core/Deadline",
  { defaultValue: (): Duration.Duration | undefined => undefined }
)

/** The deadline of a layer that does not set one: 5 seconds. */
export const defaultDeadline: Duration.Duration = Duration.seconds(5)

/**
 * Limits each call to the store that `effect` makes to this deadline. It is not a timeout of `effect` as a whole.
 * `Infinity` means none.
 *
 * **Details**
 *
 * A nested deadline can only shorten: within 1 second, `within("10 seconds")` is 1 second.
 */
export const within: {
  (deadline: Duration.Input): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, deadline: Duration.Input): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, deadline: Duration.Input): Effect.Effect<A, E, R> => {
    const limit = Duration.fromInputUnsafe(deadline)
    return Effect.updateService(
      effect,
      Deadline,
      (outer) => outer === undefined ? limit : Duration.min(outer, limit)
    )
  }
)
