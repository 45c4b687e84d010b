/**
 * What each client is asked to do in the scenarios of single calls.
 */
import type { Op } from "../Measure.ts"

export type Name = "get" | "put" | "cas" | "mix" | "range"

/** A client's way to do each. */
export type Calls = Readonly<Record<Name, Op>>

export const value = "x".repeat(100)
export const valueBytes = Buffer.from(value)

/** The key that a caller reads, and overwrites. */
export const key = (caller: number | string): string => `bench/keys/${caller}`

/** The key that a caller of a client compares and sets, alone. */
export const casKey = (client: string, caller: number | string): string => `bench/cas/${client}/${caller}`

/** The prefix of the hundred keys that are read at once. */
export const prefix = "bench/range/"
export const prefixEnd = "bench/range0"
export const rangeSize = 100

/** Nine times the one, then the other; not all callers at the same time. */
export const mix = <A>(often: (caller: number) => A, seldom: (caller: number) => A): (caller: number) => A => {
  const counts: Array<number> = []
  return (caller) => {
    const count = counts[caller] = (counts[caller] ?? caller) + 1
    return count % 10 === 0 ? seldom(caller) : often(caller)
  }
}
