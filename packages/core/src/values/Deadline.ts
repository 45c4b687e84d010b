/**
 * The deadline of each call to the store.
 *
 * Every call has a deadline: the layer's (default: 5 seconds), or a shorter one set here.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"

/**
 * The deadline of the fiber's calls, counted from the start of each call; `undefined` for the layer's deadline.
 *
 * **When to use**
 *
 * In a backend, to read the deadline of the call it executes. Programs set it with {@link within}.
 *
 * @example
 * ```ts
 * import { Deadline } from "@effect-kv/core"
 * import { Duration, Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Deadline.Deadline // => undefined
 *   yield* Deadline.within(Deadline.Deadline, "1 second") // => Duration.seconds(1)
 * })
 * ```
 *
 * @since 0.1.0
 */
export const Deadline: Context.Reference<Duration.Duration | undefined> = Context.Reference(
  "@effect-kv/core/Deadline",
  { defaultValue: (): Duration.Duration | undefined => undefined }
)

/**
 * The deadline of a layer that does not set one: 5 seconds.
 *
 * @since 0.1.0
 */
export const defaultDeadline: Duration.Duration = Duration.seconds(5)

/**
 * Sets the deadline of each call to the store that the effect makes. `Infinity` means no deadline.
 *
 * **Details**
 *
 * A call whose deadline passes fails with `DeadlineExceeded`, `Unavailable` or, if a write may have been sent,
 * `Indeterminate`. Nested deadlines only shorten: within 1 second, `within("10 seconds")` is 1 second.
 *
 * **Gotchas**
 *
 * The deadline is not a timeout of the effect as a whole: ten calls may take ten times as long.
 *
 * @example
 * ```ts
 * import { Deadline, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const kv = yield* Kv.Kv
 *   yield* kv.put("config/limit", "10").pipe(Deadline.within("500 millis"))
 *   yield* kv.get("config/limit").pipe(Deadline.within("500 millis")) // => Option.some("10")
 * })
 * ```
 *
 * @since 0.1.0
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
