/**
 * The keys that the feed reads: the smallest interval with those of all its watches.
 */
import { compareBytes, type Interval } from "../bytes.ts"

const nothing: Interval = { start: new Uint8Array(0), end: new Uint8Array(0) }

export const hullOf = (watches: Iterable<{ readonly interval: Interval }>): Interval => {
  let hull: Interval | undefined
  for (const { interval } of watches) {
    if (hull === undefined) hull = interval
    else if (!covers(hull, interval)) hull = { start: least(hull, interval).start, end: greatest(hull, interval).end }
  }
  return hull ?? nothing
}

/** Whether all keys of the second interval are in the first. */
export const covers = (self: Interval, that: Interval): boolean =>
  compareBytes(self.start, that.start) <= 0 && compareBytes(that.end, self.end) <= 0

const least = (a: Interval, b: Interval): Interval => compareBytes(a.start, b.start) <= 0 ? a : b

const greatest = (a: Interval, b: Interval): Interval => compareBytes(a.end, b.end) >= 0 ? a : b
