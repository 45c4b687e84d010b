/**
 * A while.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** Does nothing for so many milliseconds, drawn at random; both bounds are included. */
export const pause = (least: number, most: number): Effect.Effect<void> =>
  Effect.flatMap(Random.nextIntBetween(least, most), (millis) => Effect.sleep(Duration.millis(millis)))
