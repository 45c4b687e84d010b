/**
 * The ticks of a schedule: the same instants on every machine.
 */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as KvError from "../../values/KvError.ts"

export interface Ticks {
  /** The first tick after that time, both in milliseconds. */
  readonly next: (after: number) => number
  /** The last tick after `after` and not after `until`; `undefined` if there is none. */
  readonly last: (after: number, until: number) => number | undefined
}

/**
 * The ticks of the schedule. Fails if it has none.
 *
 * A `Cron` without a time zone follows that of the time it is given, by default the machine's, so machines could
 * disagree. Here it follows UTC.
 */
export const of = (schedule: Cron.Cron): Effect.Effect<Ticks, KvError.KvError> => {
  const at = (millis: number): DateTime.DateTime =>
    Option.isSome(schedule.tz) ? DateTime.makeUnsafe(millis) : DateTime.makeZonedUnsafe(millis, { timeZone: utc })
  const next = (after: number) => Cron.next(schedule, at(after)).getTime()
  const last = (after: number, until: number): number | undefined => {
    const first = next(after)
    if (first > until) return undefined
    // `next` alone decides what a tick is: around a change of the clocks `prev` may know other instants.
    let tick = next(Math.max(after, Cron.prev(schedule, at(until + 1)).getTime() - 1))
    if (tick > until) tick = next(Math.max(after, until - twoDays))
    if (tick > until) return first
    for (let later = next(tick); later <= until; later = next(later)) tick = later
    return tick
  }
  return Effect.as(
    Effect.try({
      try: () => next(0),
      catch: () => KvError.make(new KvError.InvalidRequest({ message: "the schedule never comes due" }))
    }),
    { next, last }
  )
}

const utc = DateTime.zoneMakeOffset(0)

const twoDays = 2 * 86_400_000
