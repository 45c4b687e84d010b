/**
 * A set of keys that an operation is about: one key, the keys with a prefix, or the keys between two bounds.
 *
 * A range is checked by the operation that uses it: an empty key, a lone surrogate or an inverted interval is an
 * `InvalidRequest`. Keys are ordered by their UTF-8 bytes.
 */
import * as utf8 from "../internal/values/utf8.ts"

/** Exactly one key. */
export interface Key {
  readonly _tag: "Key"
  readonly key: string
}

/** The keys `>= start` and `< end`. An empty `start` is the beginning of the key space. */
export interface HalfOpen {
  readonly _tag: "HalfOpen"
  readonly start: string
  readonly end: string
}

/** The keys that begin with `prefix` and are `>= from` (which itself begins with `prefix`). */
export interface Prefix {
  readonly _tag: "Prefix"
  readonly prefix: string
  readonly from: string
}

/** A set of keys. */
export type KeyRange = Key | HalfOpen | Prefix

/** The one key. */
export const key = (key: string): KeyRange => ({ _tag: "Key", key })

/** Every key that begins with `prefix`; with an empty prefix, every key. */
export const prefix = (prefix: string): KeyRange => ({ _tag: "Prefix", prefix, from: prefix })

/** The keys `>= start` and `< end`. An empty `start` is the beginning of the key space. */
export const halfOpen = (start: string, end: string): KeyRange => ({ _tag: "HalfOpen", start, end })

/** The keys `>= start` and `<= end`. */
export const closed = (start: string, end: string): KeyRange => ({ _tag: "HalfOpen", start, end: successor(end) })

/** The keys `>= start`. */
export const from = (start: string): KeyRange => ({ _tag: "Prefix", prefix: "", from: start })

/** Every key. */
export const all: KeyRange = { _tag: "Prefix", prefix: "", from: "" }

/** Whether the key lies in the range. */
export const contains = (self: KeyRange, key: string): boolean => {
  switch (self._tag) {
    case "Key":
      return key === self.key
    case "HalfOpen":
      return utf8.compare(self.start, key) <= 0 && utf8.compare(key, self.end) < 0
    case "Prefix":
      return key.startsWith(self.prefix) && utf8.compare(self.from, key) <= 0
  }
}

/** The part of the range that comes after the key; `undefined` if no key can. For backends. */
export const after = (self: KeyRange, key: string): KeyRange | undefined => {
  const next = successor(key)
  switch (self._tag) {
    case "Key":
      return undefined
    case "HalfOpen":
      return utf8.compare(next, self.end) < 0 ? halfOpen(next, self.end) : undefined
    case "Prefix":
      return { _tag: "Prefix", prefix: self.prefix, from: next }
  }
}

/**
 * The range of the same keys with `prefix` in front of each. It never leaves the prefix, whatever the bounds, and does not
 * contain the prefix itself as a key: without the prefix that would be the empty key, which is invalid.
 */
export const addPrefix = (self: KeyRange, prefix: string): KeyRange => {
  switch (self._tag) {
    case "Key":
      return key(prefix + self.key)
    case "HalfOpen":
      return halfOpen(prefix + firstKey(self.start), prefix + self.end)
    case "Prefix":
      return { _tag: "Prefix", prefix: prefix + self.prefix, from: prefix + firstKey(self.from) }
  }
}

/** Orders two keys by their UTF-8 bytes, as every backend does. */
export const compareKeys: (a: string, b: string) => -1 | 0 | 1 = utf8.compare

/** The problem with a key; `undefined` if it is valid. For backends. */
export const invalidKey = (key: string): string | undefined => {
  if (typeof key !== "string") return "a key must be a string"
  if (key.length === 0) return "a key must not be empty"
  if (!key.isWellFormed()) return `the key ${printable(key)} has a lone surrogate; a key must be well-formed Unicode`
  return undefined
}

/** The problem with a range; `undefined` if it is valid. For backends. */
export const invalid = (self: KeyRange): string | undefined => {
  switch (self._tag) {
    case "Key":
      return invalidKey(self.key)
    case "HalfOpen": {
      const problem = invalidBound(self.start) ?? invalidBound(self.end)
      if (problem !== undefined) return problem
      return utf8.compare(firstKey(self.start), self.end) < 0
        ? undefined
        : `the range [${printable(self.start)}, ${printable(self.end)}) is empty or inverted; ` +
          `its start must come before its end`
    }
    case "Prefix": {
      const problem = invalidBound(self.prefix) ?? invalidBound(self.from)
      if (problem !== undefined) return problem
      return self.from.startsWith(self.prefix)
        ? undefined
        : `the range from ${printable(self.from)} escapes its prefix ${printable(self.prefix)}; ` +
          `its start must begin with the prefix`
    }
    default:
      return "a range must be made by KeyRange: KeyRange.key(key) for one key, KeyRange.prefix(prefix) for all that begin with it"
  }
}

/** The least key greater than the given one. */
const successor = (key: string): string => key + "\u0000"

/** The least key that is not less than the bound. An empty bound is no key. */
const firstKey = (bound: string): string => bound === "" ? "\u0000" : bound

const invalidBound = (bound: string): string | undefined => {
  if (typeof bound !== "string") return "a bound of a range must be a string"
  return bound.isWellFormed()
    ? undefined
    : `the bound ${printable(bound)} has a lone surrogate; a bound must be well-formed Unicode`
}

const printable = (key: string): string => JSON.stringify(key.length > 100 ? `${key.slice(0, 100)}...` : key)
