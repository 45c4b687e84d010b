/**
 * Keys and ranges as bytes, in whose order the store keeps them.
 */
import type { Value } from "@effect-kv/core/Entry"
import type * as KeyRange from "@effect-kv/core/KeyRange"

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

export const bytesOf = (value: Value): Uint8Array => typeof value === "string" ? encoder.encode(value) : value

export const keyOf = (bytes: Uint8Array): string => decoder.decode(bytes)

/** The keys `>= start` and `< end`. */
export interface Interval {
  readonly start: Uint8Array
  readonly end: Uint8Array
}

/** Greater than every key: no UTF-8 text begins with this byte. */
const afterAll = Uint8Array.of(0xff)

export const intervalOf = (range: KeyRange.KeyRange): Interval => {
  switch (range._tag) {
    case "Key": {
      const start = bytesOf(range.key)
      const end = new Uint8Array(start.length + 1)
      end.set(start)
      return { start, end }
    }
    case "HalfOpen":
      return { start: bytesOf(range.start), end: bytesOf(range.end) }
    case "Prefix":
      return { start: bytesOf(range.from), end: range.prefix === "" ? afterAll : afterPrefix(bytesOf(range.prefix)) }
  }
}

/** The least sequence of bytes greater than all that have the prefix. The last byte of UTF-8 text is below 255. */
const afterPrefix = (prefix: Uint8Array): Uint8Array => {
  const end = new Uint8Array(prefix)
  end[end.length - 1]! += 1
  return end
}

export const isWithin = ({ end, start }: Interval, key: Uint8Array): boolean =>
  compareBytes(start, key) <= 0 && compareBytes(key, end) < 0

/** The order of bytes, which is that of the database. */
export const compareBytes = (a: Uint8Array, b: Uint8Array): number => {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!
  }
  return a.length - b.length
}
