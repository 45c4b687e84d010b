/**
 * Waits for conditions. They end before the test's own timeout, so that a test that hangs says what it waited for.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { inspect } from "node:util"

export interface Options<R> {
  /** What to say if it takes too long, besides what was found last. */
  readonly details?: Effect.Effect<unknown, unknown, R> | undefined
  /** How long it may take. Default: 20 seconds. */
  readonly within?: Duration.Input | undefined
}

/**
 * Looks every few milliseconds until the result is as wanted, and returns it. Dies with what was awaited, what was found last
 * and the details, if that takes too long.
 */
export const until = <A, E, R, R2 = never>(
  awaited: string,
  look: Effect.Effect<A, E, R>,
  isWanted: (found: A) => boolean,
  { details = Effect.undefined, within = "20 seconds" }: Options<R2> = {}
): Effect.Effect<A, E, R | R2> => {
  let last: A | undefined
  const remembered = Effect.map(look, (found) => last = found)
  return Effect.repeat(remembered, { until: isWanted, schedule: Schedule.spaced("5 millis") }).pipe(
    Effect.timeoutOrElse({
      duration: within,
      orElse: () =>
        Effect.flatMap(Effect.exit(Effect.timeout(details, "2 seconds")), (exit) =>
          Effect.die(
            new Error(
              `waited ${Duration.format(Duration.fromInputUnsafe(within))} for ${awaited}, but found ${inspect(last)}` +
                (exit._tag === "Success" && exit.value !== undefined ? `\n${inspect(exit.value, { depth: 4 })}` : "")
            )
          ))
    })
  )
}

/** Waits until a condition holds. */
export const untilTrue = <E, R>(
  awaited: string,
  condition: Effect.Effect<boolean, E, R>,
  options?: Options<never>
): Effect.Effect<void, E, R> => Effect.asVoid(until(awaited, condition, (holds) => holds, options))
