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
 * Gives each call to the store that `effect` makes this deadline. It is not a time-out of `effect` as a whole. `Infinity`
 * means none.
 */
export const within: {
  (deadline: Duration.Input): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, deadline: Duration.Input): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, deadline: Duration.Input): Effect.Effect<A, E, R> =>
    Effect.provideService(effect, Deadline, Duration.fromInputUnsafe(deadline))
)
