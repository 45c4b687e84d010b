import * as KeyRange from "@effect-kv/core/KeyRange"
import { assert, describe, it } from "@effect/vitest"
import { Buffer } from "node:buffer"
import { brokenText, range, text } from "./arbitraries.ts"

const compareBytes = (a: string, b: string) => Buffer.from(a, "utf8").compare(Buffer.from(b, "utf8"))

/** Whether a range holds a key, by the definition in its documentation. */
const holds = (range: KeyRange.KeyRange, key: string): boolean => {
  switch (range._tag) {
    case "Key":
      return key === range.key
    case "HalfOpen":
      return compareBytes(key, range.start) >= 0 && compareBytes(key, range.end) < 0
    case "Prefix":
      return Buffer.from(key).subarray(0, Buffer.byteLength(range.prefix)).equals(Buffer.from(range.prefix)) &&
        compareBytes(key, range.from) >= 0
  }
}

const isValid = (range: KeyRange.KeyRange) => KeyRange.invalid(range) === undefined

describe("KeyRange", () => {
  it.prop("contains exactly the keys of its definition", [range, text], ([range, key]) => {
    assert.strictEqual(KeyRange.contains(range, key), holds(range, key))
  }, { arbitrary: { runs: 2000 } })

  it.prop("closed contains both ends and the keys between them", [text, text, text], ([start, end, key]) => {
    assert.strictEqual(
      KeyRange.contains(KeyRange.closed(start, end), key),
      compareBytes(start, key) <= 0 && compareBytes(key, end) <= 0
    )
  }, { arbitrary: { runs: 1000 } })

  it.prop(
    "after contains the keys of the range that are greater than the key",
    [range, text, text],
    ([range, key, other]) => {
      if (!isValid(range) || !KeyRange.contains(range, key)) return
      const after = KeyRange.after(range, key)
      const expected = KeyRange.contains(range, other) && compareBytes(other, key) > 0
      assert.strictEqual(after !== undefined && KeyRange.contains(after, other), expected)
      assert.isTrue(after === undefined || isValid(after))
    },
    { arbitrary: { runs: 2000 } }
  )

  it.prop(
    "addPrefix contains the keys of the range with the prefix in front, and no others",
    [range, text, text],
    (args) => {
      const [range, prefix, key] = args
      if (!isValid(range)) return
      const within = KeyRange.addPrefix(range, prefix)
      assert.isTrue(isValid(within))
      if (key.length === 0) return
      assert.strictEqual(KeyRange.contains(within, prefix + key), KeyRange.contains(range, key))
      if (!key.startsWith(prefix) || key === prefix) assert.isFalse(KeyRange.contains(within, key))
    },
    { arbitrary: { runs: 3000 } }
  )

  it.prop(
    "adding two prefixes is the same as adding both at once",
    [range, text, text, text],
    ([range, outer, inner, key]) => {
      const nested = KeyRange.addPrefix(KeyRange.addPrefix(range, inner), outer)
      const flat = KeyRange.addPrefix(range, outer + inner)
      assert.strictEqual(KeyRange.contains(nested, key), KeyRange.contains(flat, key))
      assert.strictEqual(KeyRange.contains(nested, outer + inner + key), KeyRange.contains(flat, outer + inner + key))
    },
    { arbitrary: { runs: 1000 } }
  )

  it.prop("a valid range can contain a key", [range], ([range]) => {
    if (!isValid(range)) return
    const candidates = range._tag === "Key"
      ? [range.key]
      : range._tag === "HalfOpen"
      ? [range.start, `${range.start}\u0000`]
      : [range.from, `${range.from}\u0000`]
    assert.isTrue(candidates.some((key) => key.length > 0 && holds(range, key)))
  }, { arbitrary: { runs: 1000 } })

  it.prop("a lone surrogate is invalid at any position", [brokenText], ([broken]) => {
    const valid = broken.isWellFormed()
    assert.strictEqual(isValid(KeyRange.key(broken)), valid && broken.length > 0)
    assert.strictEqual(isValid(KeyRange.prefix(broken)), valid)
    assert.strictEqual(isValid(KeyRange.from(broken)), valid)
    assert.strictEqual(isValid(KeyRange.halfOpen(broken, `${broken}b`)), valid)
    assert.strictEqual(isValid(KeyRange.closed(`a${broken}`, `a${broken}`)), valid)
  })

  it("a range that is empty, inverted, or escapes its prefix is invalid", () => {
    const invalid: ReadonlyArray<KeyRange.KeyRange> = [
      KeyRange.halfOpen("b", "a"),
      KeyRange.halfOpen("a", "a"),
      KeyRange.halfOpen("a", ""),
      KeyRange.halfOpen("", "\u0000"),
      KeyRange.closed("", ""),
      KeyRange.halfOpen("\u{10000}", "\uffff"),
      { _tag: "Prefix", prefix: "a/", from: "a" },
      { _tag: "Prefix", prefix: "a/", from: "b" }
    ]
    for (const range of invalid) assert.match(KeyRange.invalid(range) ?? "", /empty|escapes/)
  })

  it("a value that is not a string or a range is invalid and does not throw", () => {
    const anything = undefined as unknown
    assert.isString(KeyRange.invalid(KeyRange.key(anything as string)))
    assert.isString(KeyRange.invalid(KeyRange.halfOpen(anything as string, "b")))
    assert.isString(KeyRange.invalid({ _tag: "Nonsense" } as unknown as KeyRange.KeyRange))
    assert.match(KeyRange.invalid("a/" as unknown as KeyRange.KeyRange) ?? "", /KeyRange\.key\(.*KeyRange\.prefix\(/)
  })

  it("a message shortens a long key", () => {
    const problem = KeyRange.invalidKey(`${"x".repeat(10_000)}\ud800`)
    assert.isBelow(problem?.length ?? 0, 300)
  })
})
