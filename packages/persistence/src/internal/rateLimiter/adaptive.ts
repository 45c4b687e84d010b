/**
 * Adaptive limits: a limit that is learned from the responses of a server.
 *
 * A response 429 with `Retry-After` starts a cooldown. The first request after it starts to learn: requests are counted until
 * the next 429. Then the count, and the time it took with the new `Retry-After`, are the learned limit and window. Another 429
 * starts again with a cooldown. The epoch grows whenever a phase starts in which earlier responses mean nothing.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { AdaptiveConsumeResult } from "effect/persistence/RateLimiter"
import * as Schema from "effect/Schema"
import type { Step } from "../combinedUpdates.ts"
import { timeOf } from "./time.ts"

const common = {
  at: Schema.Finite,
  epoch: Schema.Finite,
  /** When the state is forgotten. */
  endsAt: Schema.Finite
}

const Cooldown = Schema.Struct({
  ...common,
  phase: Schema.Literal("cooldown"),
  until: Schema.Finite
})

const Learning = Schema.Struct({
  ...common,
  phase: Schema.Literal("learning"),
  startedAt: Schema.Finite,
  tokens: Schema.Finite
})

const Learned = Schema.Struct({
  ...common,
  phase: Schema.Literal("learned"),
  limit: Schema.Finite,
  windowMillis: Schema.Finite,
  /** The tokens taken since the limit was last unused, and when they are refilled. */
  tokens: Schema.Finite,
  refilledAt: Schema.Finite
})

export const State = Schema.Union([Cooldown, Learning, Learned])

export type State = typeof State.Type

/** For how long a state is kept after its last window. */
const graceMillis = 60_000

/** No cooldown and no learned window is longer. */
const maxMillis = 3_600_000

/** A time that a server requested, within bounds. */
export const bounded = (millis: number): number => millis > 0 ? Math.min(millis, maxMillis) : 1

export interface Consume {
  readonly now: number
  readonly tokens: number
  readonly fallbackWindowMillis: number
}

export interface Feedback {
  readonly now: number
  readonly epoch: number
  readonly tokens: number
  readonly retryAfterMillis: number
}

const alive = (state: Option.Option<State>, at: number): State | undefined =>
  Option.getOrUndefined(Option.filter(state, ({ endsAt }) => endsAt > at))

const unchanged = <A>(result: A): Step<State, A> => ({ result, next: Option.none(), isFinal: false })

export const consume = (request: Consume) => (before: Option.Option<State>): Step<State, AdaptiveConsumeResult> => {
  const at = timeOf(before, request.now)
  const state = alive(before, at)
  switch (state?.phase) {
    case undefined:
      return unchanged({ delay: Duration.zero, epoch: 0, phase: "inactive" })
    case "cooldown":
      return state.until > at
        ? unchanged({ delay: Duration.millis(state.until - at), epoch: state.epoch, phase: "cooldown" })
        : learning({
          at,
          phase: "learning",
          epoch: state.epoch + 1,
          endsAt: at + request.fallbackWindowMillis + graceMillis,
          startedAt: at,
          tokens: request.tokens
        })
    case "learning":
      return learning({ ...state, at, tokens: state.tokens + request.tokens })
    case "learned":
      return consumeLearned(state, at, request.tokens)
  }
}

const learning = (next: State & { readonly phase: "learning" }): Step<State, AdaptiveConsumeResult> => ({
  result: { delay: Duration.zero, epoch: next.epoch, phase: next.phase },
  next: Option.some(next),
  isFinal: false
})

/** Whole windows are waited for: the tokens of a window are free, those of the next one wait until it begins. */
const consumeLearned = (
  state: State & { readonly phase: "learned" },
  at: number,
  tokens: number
): Step<State, AdaptiveConsumeResult> => {
  const refillMillis = state.windowMillis / state.limit
  const isUnused = state.refilledAt <= at
  const taken = (isUnused ? 0 : state.tokens) + tokens
  const refilledAt = (isUnused ? at : state.refilledAt) + refillMillis * tokens
  const startedAt = refilledAt - taken * refillMillis
  const window = Math.floor((taken - 1) / state.limit)
  const delayMillis = startedAt + window * state.windowMillis - at
  return {
    result: {
      delay: delayMillis > 0 ? Duration.millis(delayMillis) : Duration.zero,
      epoch: state.epoch,
      phase: state.phase
    },
    next: Option.some({ ...state, at, tokens: taken, refilledAt }),
    isFinal: false
  }
}

/** The server rejected a request with 429 and `Retry-After`. */
export const rejected = ({ epoch, now, retryAfterMillis, tokens }: Feedback) =>
(
  before: Option.Option<State>
): Step<State, void> => {
  const at = timeOf(before, now)
  const state = alive(before, at)
  if ((state?.epoch ?? 0) !== epoch) return unchanged(undefined)
  const until = at + bounded(retryAfterMillis)
  if (state?.phase === "cooldown") return cooldown(at, epoch, Math.max(state.until, until))
  const accepted = state?.phase === "learning" ? state.tokens - tokens : 0
  return state?.phase === "learning" && accepted > 0
    ? learned(state, at, accepted, bounded(until - state.startedAt))
    : cooldown(at, epoch, until)
}

const cooldown = (at: number, epoch: number, until: number): Step<State, void> => ({
  result: undefined,
  next: Option.some({ at, phase: "cooldown", epoch, endsAt: until + graceMillis, until }),
  isFinal: false
})

const learned = (
  { epoch, startedAt }: State & { readonly phase: "learning" },
  at: number,
  limit: number,
  windowMillis: number
): Step<State, void> => ({
  result: undefined,
  next: Option.some({
    at,
    phase: "learned",
    epoch: epoch + 1,
    endsAt: at + windowMillis + graceMillis,
    limit,
    windowMillis,
    tokens: limit,
    refilledAt: startedAt + windowMillis
  }),
  isFinal: false
})

export const ttlMillis = ({ at, endsAt }: State): number => endsAt - at
