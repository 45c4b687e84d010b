/**
 * Keys: non-empty well-formed Unicode strings, ordered by their UTF-8 bytes.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { chapter, rejects, test } from "./Case.ts"
import { entryOf, keysOf, putAll } from "./entries.ts"

/** Distinct keys that an encoding might confuse or change. */
const peculiarKeys: ReadonlyArray<string> = [
  "\u0000",
  "\u0000\u0000",
  "a",
  "a\u0000",
  "a\u0000b",
  "a ",
  " a",
  "A",
  "a/",
  "a//",
  "/",
  "\n",
  "\r\n",
  "\u007f",
  "\u0080",
  "\u00e9",
  "e\u0301",
  "\u07ff",
  "\u0800",
  "\ud7ff",
  "\ue000",
  "\ufeff",
  "\ufeffa",
  "\ufffd",
  "\uffff",
  "\u{10000}",
  "\u{1f600}",
  "\u{10ffff}",
  "%00",
  "..",
  "__proto__",
  "constructor",
  "0",
  "00"
]

const loneSurrogates: ReadonlyArray<string> = ["\ud800", "\udfff", "a\ud83d", "\ude00b", "a\ud800b", "\ude00\ud83d"]

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)

const compareBytes = (a: Uint8Array, b: Uint8Array): number => {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    if (a[i] !== b[i]) return a[i]! - b[i]!
  }
  return a.length - b.length
}

/** The order of keys, computed independently of the library. */
export const byUtf8 = (a: string, b: string): number => compareBytes(bytesOf(a), bytesOf(b))

/** Every operation that takes a key. */
const callsWithKey = (
  kv: Kv.Kv,
  key: string
): ReadonlyArray<readonly [what: string, call: Effect.Effect<unknown, KvError>]> => [
  ["get", kv.get(key)],
  ["getEntry", kv.getEntry(key)],
  ["put", kv.put(key, "v")],
  ["delete", kv.delete(key)],
  ["range", kv.range(KeyRange.key(key))],
  ["count", kv.count(KeyRange.key(key))],
  ["testAndSet", kv.testAndSet(key, Option.none(), "v")],
  ["compareAndSet", kv.compareAndSet(key, 0n, "v")],
  ["modify", kv.modify(key, () => "v")],
  ["a condition", kv.txn({ if: [Compare.exists(key)] })],
  ["an operation of a txn", kv.txn({ then: [Op.put("ok", "v"), Op.get(key)] })],
  ["an operation of the branch that is not taken", kv.txn({ else: [Op.put(key, "v")] })],
  ["a nested txn", kv.txn({ then: [Op.put("ok", "v"), Op.txn({ then: [Op.delete(key)] })] })],
  ["a watch", Effect.scoped(backendOf(kv).watch({ range: KeyRange.key(key) }))]
]

const allRejected = Effect.fnUntraced(function*(kv: Kv.Kv, key: string) {
  for (const [what, call] of callsWithKey(kv, key)) {
    const reason = yield* rejects(kv, "InvalidRequest", call)
    assert.notInclude(reason.message, "undefined", what)
  }
  assert.isTrue(Option.isNone(yield* kv.get("ok")), "a rejected transaction is not applied in part")
})

export const cases = chapter("keys", [
  test("an empty key is rejected by every operation", function*(kv) {
    yield* allRejected(kv, "")
  }),

  test("a lone surrogate in a key is rejected by every operation, never replaced", function*(kv) {
    yield* allRejected(kv, loneSurrogates[0]!)
    for (const key of loneSurrogates) {
      yield* rejects(kv, "InvalidRequest", kv.put(key, "v"))
      yield* rejects(kv, "InvalidRequest", kv.get(key))
    }
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("a lone surrogate in a bound or prefix of a range is rejected", function*(kv) {
    for (const bound of loneSurrogates) {
      yield* rejects(kv, "InvalidRequest", kv.range(KeyRange.prefix(bound)))
      yield* rejects(kv, "InvalidRequest", kv.range(KeyRange.from(bound)))
      yield* rejects(kv, "InvalidRequest", kv.deleteRange(KeyRange.halfOpen("a", `z${bound}`)))
      yield* rejects(kv, "InvalidRequest", kv.deleteRange(KeyRange.closed(bound, "\u{10ffff}")))
    }
    yield* rejects(kv, "InvalidRequest", Effect.scoped(backendOf(kv).watch({ range: KeyRange.prefix("\ud800") })))
  }),

  test("a key is returned exactly as it was given, and differs from all similar keys", function*(kv) {
    yield* putAll(kv, peculiarKeys)
    for (const key of peculiarKeys) {
      assert.deepStrictEqual(yield* kv.get(key), Option.some(`value of ${key}`))
      assert.strictEqual((yield* entryOf(kv, key)).key, key)
    }
    assert.strictEqual(yield* kv.count(KeyRange.all), peculiarKeys.length)
  }),

  test("deleting a key deletes no other key, however similar", function*(kv) {
    yield* putAll(kv, peculiarKeys)
    for (const [i, key] of peculiarKeys.entries()) {
      assert.strictEqual((yield* kv.delete(key)).deleted, 1)
      assert.strictEqual(yield* kv.count(KeyRange.all), peculiarKeys.length - i - 1)
    }
  }),

  test("keys are ordered by their UTF-8 bytes, not by UTF-16 code units", function*(kv) {
    yield* putAll(kv, ["\u{10000}", "\uffff", "\ue000", "\u{1f600}"])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["\ue000", "\uffff", "\u{10000}", "\u{1f600}"])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.halfOpen("\uffff", "\u{1f600}"))), ["\uffff", "\u{10000}"])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.from("\uffff"))), ["\uffff", "\u{10000}", "\u{1f600}"])
  }),

  test("keys with unusual characters are ordered by their UTF-8 bytes", function*(kv) {
    yield* putAll(kv, peculiarKeys)
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), peculiarKeys.toSorted(byUtf8))
  }),

  test("a key can contain every code point", function*(kv) {
    const keys: Array<string> = []
    for (let point = 0; point <= 0x10ffff; point += point < 0x800 ? 13 : point < 0x10000 ? 997 : 9973) {
      if (point < 0xd800 || point > 0xdfff) keys.push(String.fromCodePoint(point))
    }
    keys.push("\ud7ff", "\ue000", "\u{10ffff}")
    const distinct = [...new Set(keys)]
    yield* putAll(kv, distinct)
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), distinct.toSorted(byUtf8))
  }),

  test("a key can be 60 KB long", function*(kv) {
    const long = "\u00e9/".repeat(20_000)
    yield* kv.put(long, "v")
    yield* kv.put(`${long}x`, "w")
    assert.deepStrictEqual(yield* kv.get(long), Option.some("v"))
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.prefix(long))), [long, `${long}x`])
  })
])
