/**
 * The keys of an operation: one key, the keys with a prefix, or the keys between two bounds.
 *
 * The operation that uses a range checks it: an empty key, a lone surrogate or an inverted interval is an
 * `InvalidRequest`. Keys are ordered by their UTF-8 bytes.
 */
import * as utf8 from "../internal/values/utf8.ts"

/**
 * Exactly one key.
 *
 * @since 0.1.0
 */
export interface Key {
  readonly _tag: "Key"
  readonly key: string
}

/**
 * The keys `>= start` and `< end`. An empty `start` is the beginning of the key space.
 *
 * @since 0.1.0
 */
export interface HalfOpen {
  readonly _tag: "HalfOpen"
  readonly start: string
  readonly end: string
}

/**
 * The keys that begin with `prefix` and are `>= from` (which itself begins with `prefix`).
 *
 * @since 0.1.0
 */
export interface Prefix {
  readonly _tag: "Prefix"
  readonly prefix: string
  readonly from: string
}

/**
 * A set of keys.
 *
 * @since 0.1.0
 */
export type KeyRange = Key | HalfOpen | Prefix

/**
 * The range of exactly one key.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * KeyRange.contains(KeyRange.key("a"), "a") // => true
 * KeyRange.contains(KeyRange.key("a"), "ab") // => false
 * ```
 *
 * @since 0.1.0
 */
export const key = (key: string): KeyRange => ({ _tag: "Key", key })

/**
 * The range of every key that begins with the prefix. With an empty prefix it is every key.
 *
 * @example
 * ```ts
 * import { KeyRange, Kv } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.put("app/limit", "10")
 *   yield* Kv.put("apple", "red")
 *   yield* Kv.count(KeyRange.prefix("app/")) // => 1
 * })
 * ```
 *
 * @since 0.1.0
 */
export const prefix = (prefix: string): KeyRange => ({ _tag: "Prefix", prefix, from: prefix })

/**
 * The keys `>= start` and `< end`. An empty `start` is the beginning of the key space.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * const range = KeyRange.halfOpen("a", "c")
 * const inside = ["a", "b", "c"].filter((key) => KeyRange.contains(range, key)) // => ["a", "b"]
 * ```
 *
 * @since 0.1.0
 */
export const halfOpen = (start: string, end: string): KeyRange => ({ _tag: "HalfOpen", start, end })

/**
 * The keys `>= start` and `<= end`.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * const range = KeyRange.closed("a", "c")
 * const inside = ["a", "b", "c", "d"].filter((key) => KeyRange.contains(range, key)) // => ["a", "b", "c"]
 * ```
 *
 * @since 0.1.0
 */
export const closed = (start: string, end: string): KeyRange => ({ _tag: "HalfOpen", start, end: successor(end) })

/**
 * The keys `>= start`.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * const inside = ["a", "b", "c"].filter((key) => KeyRange.contains(KeyRange.from("b"), key)) // => ["b", "c"]
 * ```
 *
 * @since 0.1.0
 */
export const from = (start: string): KeyRange => ({ _tag: "Prefix", prefix: "", from: start })

/**
 * Every key.
 *
 * @since 0.1.0
 */
export const all: KeyRange = { _tag: "Prefix", prefix: "", from: "" }

/**
 * Whether the key lies in the range.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * KeyRange.contains(KeyRange.prefix("app/"), "app/limit") // => true
 * KeyRange.contains(KeyRange.prefix("app/"), "apple") // => false
 * ```
 *
 * @since 0.1.0
 */
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

/**
 * The part of the range that comes after the key; `undefined` if no key can follow it. For backends.
 *
 * **When to use**
 *
 * To read a large range in pages: read the range after the last key of the page. `Kv.rangeStream` does so.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * const rest = KeyRange.after(KeyRange.closed("a", "c"), "a")
 * const inside = ["a", "b", "c"].filter((key) => rest !== undefined && KeyRange.contains(rest, key)) // => ["b", "c"]
 * KeyRange.after(KeyRange.key("a"), "a") // => undefined
 * ```
 *
 * @since 0.1.0
 */
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
 * The range of the same keys with `prefix` in front of each. It never leaves the prefix, whatever the bounds, and does
 * not contain the prefix itself as a key: without the prefix that would be the empty key, which is invalid.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * const range = KeyRange.addPrefix(KeyRange.all, "app/")
 * const inside = ["app/", "app/limit", "apple"].filter((key) => KeyRange.contains(range, key)) // => ["app/limit"]
 * ```
 *
 * @since 0.1.0
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

/**
 * Orders two keys by their UTF-8 bytes, as every backend does.
 *
 * **Gotchas**
 *
 * JavaScript's own order compares UTF-16 units. The two differ for keys with characters beyond U+FFFF.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * const sorted = ["b", "😀", "ﬀ", "a"].sort(KeyRange.compareKeys) // => ["a", "b", "ﬀ", "😀"]
 * const byUnits = ["b", "😀", "ﬀ", "a"].sort() // => ["a", "b", "😀", "ﬀ"]
 * ```
 *
 * @since 0.1.0
 */
export const compareKeys: (a: string, b: string) => -1 | 0 | 1 = utf8.compare

/**
 * The problem with a key; `undefined` if it is valid. For backends.
 *
 * **When to use**
 *
 * To reject a key early, such as a name from a form. Every operation checks its keys itself.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * KeyRange.invalidKey("app/limit") // => undefined
 * KeyRange.invalidKey("") // => "a key must not be empty"
 * ```
 *
 * @since 0.1.0
 */
export const invalidKey = (key: string): string | undefined => {
  if (typeof key !== "string") return "a key must be a string"
  if (key.length === 0) return "a key must not be empty"
  if (!key.isWellFormed()) return `the key ${printable(key)} has a lone surrogate; a key must be well-formed Unicode`
  return undefined
}

/**
 * The problem with a range; `undefined` if it is valid. For backends.
 *
 * **When to use**
 *
 * In a backend or a recipe, to fail with `InvalidRequest` before a request is sent.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 *
 * KeyRange.invalid(KeyRange.closed("a", "c")) // => undefined
 * KeyRange.invalid(KeyRange.halfOpen("c", "a"))?.includes("empty or inverted") // => true
 * ```
 *
 * @since 0.1.0
 */
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
      return "a range must be made by KeyRange: KeyRange.key(key) for one key, KeyRange.prefix(prefix) for all keys with that prefix"
  }
}

/** The least key greater than the given one. */
const successor = (key: string): string => key + "\u0000"

/** The least valid key `>=` the bound. The empty string is a valid bound, but not a valid key. */
const firstKey = (bound: string): string => bound === "" ? "\u0000" : bound

const invalidBound = (bound: string): string | undefined => {
  if (typeof bound !== "string") return "a bound of a range must be a string"
  return bound.isWellFormed()
    ? undefined
    : `the bound ${printable(bound)} has a lone surrogate; a bound must be well-formed Unicode`
}

const printable = (key: string): string => JSON.stringify(key.length > 100 ? `${key.slice(0, 100)}...` : key)
