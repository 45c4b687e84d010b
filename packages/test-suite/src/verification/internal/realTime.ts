/**
 * Real time: runs an effect with the real clock, even inside a test that uses the test clock.
 *
 * Servers, sockets and processes run in real time. A fixture that polled them with a clock that stands still would hang.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

const clock = Clock.Clock.defaultValue()

export const realTime = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, clock)
