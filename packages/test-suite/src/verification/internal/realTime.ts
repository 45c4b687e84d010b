/**
 * Runs an effect on the machine's clock, even inside a test that runs on the test clock.
 *
 * Servers, sockets and processes live in real time: a fixture that polled them on a clock that stands still would hang.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

const clock = Clock.Clock.defaultValue()

export const realTime = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, clock)
