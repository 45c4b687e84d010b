/**
 * When this process could not run: because a fault stopped its event loop, or because the machine had other things to do.
 *
 * A call that ended late for that has not missed its deadline by any doing of the library's.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** A time in which nothing ran, by the monotonic clock, in nanoseconds. */
export interface Standstill {
  readonly from: bigint
  readonly to: bigint
}

/** How often it is felt for, and what is not worth noting, in milliseconds. */
const interval = 20
const negligible = 30

/** Adds what it finds to the list, until it is interrupted. */
export const feel = Effect.fnUntraced(function*(standstills: Array<Standstill>) {
  let last = yield* Clock.monotonicTimeNanos
  while (true) {
    yield* Effect.sleep(interval)
    const now = yield* Clock.monotonicTimeNanos
    if (Number(now - last) / 1e6 > interval + negligible) standstills.push({ from: last, to: now })
    last = now
  }
})

/** For how much of a time it stood still, in milliseconds. */
export const within = (standstills: ReadonlyArray<Standstill>, from: bigint, to: bigint): number =>
  standstills.reduce((sum, standstill) => {
    const begins = standstill.from > from ? standstill.from : from
    const ends = standstill.to < to ? standstill.to : to
    return ends > begins ? sum + Number(ends - begins) / 1e6 : sum
  }, 0)
