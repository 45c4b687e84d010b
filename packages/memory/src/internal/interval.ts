/**
 * Intervals of keys, the common form of all kinds of `KeyRange`: the keys from a start up to an end, in UTF-8 order.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"

/** The keys `>= start` and `< end`; without an `end`, all keys `>= start`. */
export interface Interval {
  readonly start: string
  readonly end: string | undefined
}

/** The one key, if the range can hold no other. */
export const singleKey = (range: KeyRange.KeyRange): string | undefined => {
  if (range._tag === "Key") return range.key
  return range._tag === "HalfOpen" && range.start !== "" && range.end === `${range.start}\u0000`
    ? range.start
    : undefined
}

export const fromRange = (range: KeyRange.KeyRange): Interval => {
  switch (range._tag) {
    case "Key":
      return { start: range.key, end: `${range.key}\u0000` }
    case "HalfOpen":
      return range
    case "Prefix":
      return { start: range.from, end: afterPrefix(range.prefix) }
  }
}

export const contains = (self: Interval, key: string): boolean =>
  KeyRange.compareKeys(self.start, key) <= 0 && (self.end === undefined || KeyRange.compareKeys(key, self.end) < 0)

const maxCodePoint = 0x10ffff
const lastBeforeSurrogates = 0xd7ff
const firstAfterSurrogates = 0xe000

/** The least string greater than all strings with the prefix: its last code point below the maximum is incremented. */
const afterPrefix = (prefix: string): string | undefined => {
  let end = prefix.length
  while (end > 0) {
    const isPair = (prefix.charCodeAt(end - 1) & 0xfc00) === 0xdc00
    const start = end - (isPair ? 2 : 1)
    const last = prefix.codePointAt(start)!
    if (last < maxCodePoint) {
      const next = last === lastBeforeSurrogates ? firstAfterSurrogates : last + 1
      return prefix.slice(0, start) + String.fromCodePoint(next)
    }
    end = start
  }
  return undefined
}
