/**
 * How a range is written in spans and in the messages of errors.
 */
import type * as KeyRange from "../KeyRange.ts"

export const showRange = (range: KeyRange.KeyRange): string => {
  switch (range._tag) {
    case "Key":
      return range.key
    case "HalfOpen":
      return `[${range.start}, ${range.end})`
    case "Prefix":
      return range.from === range.prefix ? `${range.prefix}*` : `[${range.from}, ${range.prefix}*)`
  }
}
