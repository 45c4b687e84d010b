/**
 * The order and the size of values by their bytes, whether they are kept as text or as bytes.
 */
import type { Value } from "@effect-kv/core/Entry"
import { compareKeys } from "@effect-kv/core/KeyRange"

const encoder = new TextEncoder()

const bytesOf = (value: Value): Uint8Array => typeof value === "string" ? encoder.encode(value) : value

/** Orders values by their bytes. */
export const compareValues = (a: Value, b: Value): -1 | 0 | 1 =>
  typeof a === "string" && typeof b === "string" ? compareKeys(a, b) : compareBytes(bytesOf(a), bytesOf(b))

const compareBytes = (a: Uint8Array, b: Uint8Array): -1 | 0 | 1 => {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    if (a[i] !== b[i]) return a[i]! < b[i]! ? -1 : 1
  }
  return a.length === b.length ? 0 : a.length < b.length ? -1 : 1
}

export const byteLength = (value: Value): number => bytesOf(value).length
