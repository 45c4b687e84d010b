/**
 * Flags that are durations: `500ms`, `10s`, `5m`, `2h`, `1d`, a number of seconds, or Effect's `10 seconds`.
 */
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

const units: Record<string, (amount: number) => Duration.Duration> = {
  ms: Duration.millis,
  s: Duration.seconds,
  m: Duration.minutes,
  h: Duration.hours,
  d: Duration.days
}

/** Reads a duration; `none` if the text is none. */
export const parse = (text: string): Option.Option<Duration.Duration> => {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?$/.exec(text) ?? []
  if (amount !== undefined) return Option.some(units[unit ?? "s"]!(Number(amount)))
  return /^\d+(?:\.\d+)? [a-z]+$/.test(text)
    ? Option.filter(Duration.fromInput(text as Duration.Input), Duration.isFinite)
    : Option.none()
}

/** A flag with a duration. */
export const make = (name: string): Flag.Flag<Duration.Duration> =>
  Flag.String(name).pipe(
    Flag.filterMap(parse, () => "Expected a duration such as 500ms, 10s, 5m or 2h"),
    Flag.withMetavar("DURATION")
  )
