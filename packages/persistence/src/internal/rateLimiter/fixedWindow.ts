/**
 * Fixed windows: a counter that starts again when its window has ended. A token extends the window by the time in which it
 * is refilled, so the window of a full limit is as long as the limiter's.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Step } from "../combinedUpdates.ts"
import { timeOf } from "./time.ts"

export const State = Schema.Struct({
  at: Schema.Finite,
  /** The tokens taken in the window. */
  count: Schema.Finite,
  /** When the window ends. */
  endsAt: Schema.Finite
})

export type State = typeof State.Type

export interface Request {
  readonly now: number
  readonly tokens: number
  readonly refillMillis: number
  /** Tokens above it are rejected; `undefined` takes them in advance. */
  readonly limit: number | undefined
}

/** The tokens taken, with those of the request, and how long the window lasts. */
export type Result = readonly [count: number, ttlMillis: number]

export const consume = ({ limit, now, refillMillis, tokens }: Request) =>
(
  state: Option.Option<State>
): Step<State, Result> => {
  const at = timeOf(state, now)
  const window = Option.getOrElse(Option.filter(state, ({ endsAt }) => endsAt > at), () => ({ count: 0, endsAt: at }))
  const count = window.count + tokens
  if (limit !== undefined && count > limit) {
    // Other clients only add to the window until it ends.
    return { result: [count, window.endsAt - at], next: Option.none(), isFinal: true }
  }
  const endsAt = window.endsAt + refillMillis * tokens
  return {
    result: [count, endsAt - at],
    next: tokens === 0 ? Option.none() : Option.some({ at, count, endsAt }),
    isFinal: false
  }
}

export const ttlMillis = ({ at, endsAt }: State): number => endsAt - at
