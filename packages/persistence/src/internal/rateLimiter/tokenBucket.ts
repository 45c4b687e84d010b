/**
 * Token buckets: a token is added in each interval, up to the limit. A full bucket is the same as a missing one.
 *
 * Refills are computed from the start of an interval, in whole intervals. So a state need not be written when it was only
 * refilled, and a rejection writes nothing.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Step } from "../combinedUpdates.ts"
import { timeOf } from "./time.ts"

export const State = Schema.Struct({
  at: Schema.Finite,
  /** Negative if tokens were taken in advance. */
  tokens: Schema.Finite,
  /** When the current interval began. */
  refilledAt: Schema.Finite,
  /** When the bucket is full again. */
  fullAt: Schema.Finite
})

export type State = typeof State.Type

export interface Request {
  readonly now: number
  readonly tokens: number
  readonly limit: number
  readonly refillMillis: number
  /** Whether tokens can be taken in advance. */
  readonly allowOverflow: boolean
}

/** The tokens left, and how much of the current interval has passed. */
export type Result = readonly [remaining: number, elapsedMillis: number]

export const consume = ({ allowOverflow, limit, now, refillMillis, tokens }: Request) =>
(
  state: Option.Option<State>
): Step<State, Result> => {
  const at = timeOf(state, now)
  const bucket = Option.getOrElse(state, () => ({ tokens: limit, refilledAt: at }))
  const intervals = Math.max(0, Math.floor((at - bucket.refilledAt) / refillMillis))
  const available = Math.min(limit, bucket.tokens + intervals)
  const refilledAt = available >= limit ? at : bucket.refilledAt + intervals * refillMillis
  const remaining = available - tokens
  const result = [remaining, Math.max(0, at - refilledAt)] as const
  // Other clients only take from the bucket.
  if (remaining < 0 && !allowOverflow) return { result, next: Option.none(), isFinal: true }
  const fullAt = refilledAt + Math.ceil(limit - remaining) * refillMillis
  return {
    result,
    next: tokens === 0 ? Option.none() : Option.some({ at, tokens: remaining, refilledAt, fullAt }),
    isFinal: false
  }
}

export const ttlMillis = ({ at, fullAt }: State): number => fullAt - at
