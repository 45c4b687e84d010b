/**
 * A pause of random length.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** Sleeps for a random number of milliseconds, both bounds included. */
export const pause = (least: number, most: number): Effect.Effect<void> =>
  Effect.flatMap(Random.nextIntBetween(least, most), (millis) => Effect.sleep(Duration.millis(millis)))
