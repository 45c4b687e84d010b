/**
 * The calls that each client makes in the scenarios of single calls.
 */
import type { Op } from "../Measure.ts"

export type Name = "get" | "put" | "cas" | "mix" | "range"

/** A client's implementation of each call. */
export type Calls = Readonly<Record<Name, Op>>

export const value = "x".repeat(100)
export const valueBytes = Buffer.from(value)

/** The key that a caller reads and overwrites. */
export const key = (caller: number | string): string => `bench/keys/${caller}`

/** The key that only one caller of one client compares and sets. */
export const casKey = (client: string, caller: number | string): string => `bench/cas/${client}/${caller}`

/** The prefix of the hundred keys that are read at once. */
export const prefix = "bench/range/"
export const prefixEnd = "bench/range0"
export const rangeSize = 100

/** Nine calls of the first, then one of the second, at different times for different callers. */
export const mix = <A>(often: (caller: number) => A, seldom: (caller: number) => A): (caller: number) => A => {
  const counts: Array<number> = []
  return (caller) => {
    const count = counts[caller] = (counts[caller] ?? caller) + 1
    return count % 10 === 0 ? seldom(caller) : often(caller)
  }
}

/** The calls of a client whose calls are promises. */
export const ofPromises = ({ cas, get, put, range }: {
  readonly get: (caller: number) => Promise<unknown>
  readonly put: (caller: number) => Promise<unknown>
  readonly cas: (caller: number) => Promise<unknown>
  readonly range: () => Promise<unknown>
}): Calls => ({
  get: { promise: get },
  put: { promise: put },
  cas: { promise: cas },
  mix: { promise: mix(get, put) },
  range: { promise: range }
})
