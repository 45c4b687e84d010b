/**
 * Values and entries: values are bytes, strings are stored as UTF-8, and entries have revisions and a version.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { chapter, reasonOf, rejects, Store, test } from "./Case.ts"
import { entryOf } from "./entries.ts"

const allBytes = Uint8Array.from({ length: 256 }, (_, i) => i)

const texts: ReadonlyArray<string> = [
  "",
  "plain",
  "\u0000",
  "a\u0000b",
  "\ufeffwith a byte order mark",
  "\ufeff",
  "\u00e9 e\u0301",
  "\uffff \ufffd",
  "\u{1f600}\u{10ffff}",
  "line\r\nbreak\n",
  " ",
  "\"quoted\" \\ {json}"
]

export const cases = chapter("values", [
  test("a string value is returned exactly as it was written", function*(kv) {
    for (const text of texts) {
      yield* kv.put("k", text)
      assert.deepStrictEqual(yield* kv.get("k"), Option.some(text))
      const entry = yield* entryOf(kv, "k")
      assert.strictEqual(yield* entry.text, text)
      assert.strictEqual(entry.lossyText, text)
      assert.deepStrictEqual(entry.value, new TextEncoder().encode(text))
      assert.strictEqual(entry.size, new TextEncoder().encode(text).length)
    }
  }),

  test("a value of all 256 bytes is returned exactly as it was written", function*(kv) {
    yield* kv.put("k", allBytes)
    const entry = yield* entryOf(kv, "k")
    assert.deepStrictEqual(entry.value, allBytes)
    assert.strictEqual(entry.size, 256)
  }),

  test("UTF-8 bytes can be read as a string, and a string as its UTF-8 bytes", function*(kv) {
    yield* kv.put("k", new TextEncoder().encode("\u{1f600}"))
    assert.deepStrictEqual(yield* kv.get("k"), Option.some("\u{1f600}"))
  }),

  test("reading a value that is not UTF-8 as text fails", function*(kv) {
    yield* kv.put("k", Uint8Array.of(0x61, 0xff, 0x62))
    const reason = yield* rejects(kv, "InvalidRequest", kv.get("k"))
    assert.include(reason.message, "getEntry")
    yield* rejects(kv, "InvalidRequest", kv.modify("k", () => "text"))
    const entry = yield* entryOf(kv, "k")
    assert.strictEqual((yield* reasonOf(entry.text))._tag, "InvalidRequest")
    assert.strictEqual(entry.lossyText, "a\ufffdb")
    assert.deepStrictEqual(entry.value, Uint8Array.of(0x61, 0xff, 0x62))
  }),

  test("a key with an empty value exists", function*(kv) {
    yield* kv.put("text", "")
    yield* kv.put("bytes", new Uint8Array(0))
    assert.deepStrictEqual(yield* kv.get("text"), Option.some(""))
    assert.deepStrictEqual(yield* kv.get("bytes"), Option.some(""))
    assert.strictEqual((yield* entryOf(kv, "bytes")).value.length, 0)
    assert.strictEqual(yield* kv.count(KeyRange.all), 2)
  }),

  test("a missing key has no value", function*(kv) {
    assert.deepStrictEqual(yield* kv.get("k"), Option.none())
    assert.deepStrictEqual(yield* kv.getEntry("k"), Option.none())
  }),

  test("a lone surrogate in a value is rejected, never replaced", function*(kv) {
    for (const value of ["\ud800", "a\udc00b", "\ude00\ud83d"]) {
      yield* rejects(kv, "InvalidRequest", kv.put("k", value))
      yield* rejects(kv, "InvalidRequest", kv.txn({ then: [Op.put("k", value)] }))
      yield* rejects(kv, "InvalidRequest", kv.testAndSet("k", Option.some(value), "ok"))
      yield* rejects(kv, "InvalidRequest", kv.modify("k", () => value))
    }
    assert.deepStrictEqual(yield* kv.get("k"), Option.none())
  }),

  test("a value can be almost as large as the request limit", function*(kv) {
    const { limits } = yield* Store
    const value = new Uint8Array(limits.maxRequestBytes - 4096).map((_, i) => i % 251)
    yield* kv.put("k", value)
    const read = (yield* entryOf(kv, "k")).value
    assert.isTrue(read.length === value.length && read.every((byte, i) => byte === value[i]))
  }),

  test("changing the bytes passed in or returned does not change the store", function*(kv) {
    const value = Uint8Array.of(1, 2, 3)
    const operation = Op.put("k", value)
    value.fill(9)
    yield* backendOf(kv).execute(operation)
    const first = yield* entryOf(kv, "k")
    assert.deepStrictEqual(first.value, Uint8Array.of(1, 2, 3))
    first.value.fill(8)
    assert.deepStrictEqual((yield* entryOf(kv, "k")).value, Uint8Array.of(1, 2, 3))
  }),

  test("an entry has its create revision, mod revision, version and no lease", function*(kv) {
    const first = yield* kv.put("k", "1")
    yield* kv.put("other", "-")
    const second = yield* kv.put("k", "2")
    const entry = yield* entryOf(kv, "k")
    assert.strictEqual(entry.createRevision, first.revision)
    assert.strictEqual(entry.modRevision, second.revision)
    assert.strictEqual(entry.version, 2)
    assert.deepStrictEqual(entry.lease, Option.none())
  }),

  test("a key that is deleted and put again has a new create revision and version 1", function*(kv) {
    yield* kv.put("k", "1")
    yield* kv.put("k", "2")
    yield* kv.delete("k")
    const again = yield* kv.put("k", "3")
    const entry = yield* entryOf(kv, "k")
    assert.strictEqual(entry.createRevision, again.revision)
    assert.strictEqual(entry.modRevision, again.revision)
    assert.strictEqual(entry.version, 1)
  }),

  test("printing an entry, an operation or a condition never shows a value", function*(kv) {
    const secret = "s3cr3t-value"
    yield* kv.put("k", secret)
    const response = yield* kv.range(KeyRange.all)
    const printed = yield* Effect.sync(() => printings(response.entries[0], response, Op.put("k", secret)))
    for (const text of printed) assert.notInclude(text, secret)
    assert.include(printed[0], "\"k\"")
  })
])

/** Values printed by `JSON.stringify`, `String` and a template. */
const printings = (...things: ReadonlyArray<unknown>): ReadonlyArray<string> =>
  things.flatMap((thing) => [
    JSON.stringify(thing, (_, value: unknown) => typeof value === "bigint" ? `${value}` : value),
    String(thing)
  ])
