/**
 * Checks of options when a layer is built, so that a mistake is not found by the first call.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** The prefix, with a slash at its end. */
export const prefix = (input: string): Effect.Effect<string, KvError.KvError> => {
  const problem = KeyRange.invalidKey(input)
  if (problem !== undefined) return invalid(`the prefix is part of keys: ${problem}`)
  return Effect.succeed(input.endsWith("/") ? input : `${input}/`)
}

/** A time that is positive and finite. */
export const positive = (name: string, input: Duration.Input): Effect.Effect<Duration.Duration, KvError.KvError> => {
  const time = Duration.fromInput(input)
  return Option.isSome(time) && Duration.isFinite(time.value) && Duration.isPositive(time.value)
    ? Effect.succeed(time.value)
    : invalid(`${name} must be a positive and finite time`)
}

/** A time of zero or more, which may be infinite. */
export const notNegative = (name: string, input: Duration.Input): Effect.Effect<Duration.Duration, KvError.KvError> => {
  const time = Duration.fromInput(input)
  return Option.isSome(time) && !Duration.isNegative(time.value)
    ? Effect.succeed(time.value)
    : invalid(`${name} must be a time of zero or more`)
}

const invalid = (message: string): Effect.Effect<never, KvError.KvError> =>
  KvError.fail(new KvError.InvalidRequest({ message }))
