/**
 * The time of a rate limiter's state.
 *
 * Time comes from the clocks of the clients, which differ. The time of a state never goes back: a client whose clock is
 * behind continues at the time of the last write. So no client can refill what another has used.
 */
import * as Option from "effect/Option"

/** Each state has the time of its last write, in milliseconds since 1970. */
export interface Timed {
  readonly at: number
}

/** The time at which a client that reads `now` continues the state. */
export const timeOf = (state: Option.Option<Timed>, now: number): number =>
  Option.isSome(state) ? Math.max(now, state.value.at) : now
