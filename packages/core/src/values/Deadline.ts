/**
 * How long a call may take.
 *
 * Every call to the store has a deadline: the layer's (5 seconds unless it says otherwise), or the one set here.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"

/** The deadline of calls made from here on, counted from the start of each call; `undefined` for the layer's. */
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
