/**
 * A range as short text, for spans and logs.
 */
import type { KeyRange } from "../../values/KeyRange.ts"

export const describeRange = (range: KeyRange): string => {
  switch (range._tag) {
    case "Key":
      return range.key
    case "HalfOpen":
      return `[${range.start}, ${range.end})`
    case "Prefix":
      return range.from === range.prefix ? `${range.prefix}*` : `[${range.from}, ${range.prefix}*)`
    default:
      // An invalid range must not make its own error unreadable.
      return String(range satisfies never)
  }
}
