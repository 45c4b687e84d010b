/**
 * Values of entries: comparison by bytes, and printing.
 */
import type { Value } from "@effect-kv/core/Entry"

const encoder = new TextEncoder()

export const toBytes = (value: Value): Uint8Array => typeof value === "string" ? encoder.encode(value) : value

export const sameValue = (a: Value, b: Value): boolean =>
  a === b || !(typeof a === "string" && typeof b === "string") && compareValues(a, b) === 0

/** Orders by bytes. */
export const compareValues = (a: Value, b: Value): -1 | 0 | 1 => {
  if (a === b) return 0
  const x = toBytes(a)
  const y = toBytes(b)
  const length = Math.min(x.length, y.length)
  for (let i = 0; i < length; i++) {
    if (x[i] !== y[i]) return x[i]! < y[i]! ? -1 : 1
  }
  return x.length === y.length ? 0 : x.length < y.length ? -1 : 1
}

/** A key that is equal for equal values. */
export const valueKey = (value: Value): string => typeof value === "string" ? `"${value}` : `x${value.join(",")}`

const shown = 60

export const showValue = (value: Value): string => {
  const text = typeof value === "string" ? JSON.stringify(value) : `bytes ${value.slice(0, shown).join(" ")}`
  return text.length > shown ? `${text.slice(0, shown)}...` : text
}
