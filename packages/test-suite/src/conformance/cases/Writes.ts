/**
 * Puts and deletes: each has one revision, and returns previous entries on request.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { chapter, revisionOf, test } from "./Case.ts"
import { entryOf, keysOf, putAll, textOf } from "./entries.ts"

export const cases = chapter("writes", [
  test("a write raises the revision by one, and its response has that revision", function*(kv) {
    const before = yield* revisionOf(kv)
    for (let i = 1n; i <= 5n; i++) {
      assert.strictEqual((yield* kv.put("k", `${i}`)).revision, before + i)
    }
    assert.strictEqual((yield* kv.delete("k")).revision, before + 6n)
    assert.strictEqual(yield* revisionOf(kv), before + 6n)
  }),

  test("putting the same value again is a write with a revision of its own", function*(kv) {
    const first = yield* kv.put("k", "same")
    const second = yield* kv.put("k", "same")
    assert.strictEqual(second.revision, first.revision + 1n)
    const entry = yield* entryOf(kv, "k")
    assert.deepStrictEqual([entry.version, entry.modRevision], [2, second.revision])
  }),

  test("a put returns the previous entry on request, if there was one", function*(kv) {
    const first = yield* kv.put("k", "1", { previous: true })
    assert.deepStrictEqual(first.previous, Option.none())
    const second = yield* kv.put("k", "2", { previous: true })
    const previous = Option.getOrThrow(second.previous)
    assert.deepStrictEqual(
      [previous.key, previous.lossyText, previous.modRevision, previous.createRevision, previous.version],
      ["k", "1", first.revision, first.revision, 1]
    )
    assert.deepStrictEqual((yield* kv.put("k", "3")).previous, Option.none())
    yield* kv.delete("k")
    assert.deepStrictEqual((yield* kv.put("k", "4", { previous: true })).previous, Option.none())
  }),

  test("a put returns a previous entry with an empty value", function*(kv) {
    yield* kv.put("k", "")
    const previous = Option.getOrThrow((yield* kv.put("k", "2", { previous: true })).previous)
    assert.deepStrictEqual([previous.key, previous.size], ["k", 0])
  }),

  test("deleting a key deletes only that key", function*(kv) {
    yield* putAll(kv, ["a", "a\u0000", "ab", "b"])
    const response = yield* kv.delete("a")
    assert.strictEqual(response.deleted, 1)
    assert.deepStrictEqual(response.previous, [])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["a\u0000", "ab", "b"])
  }),

  test("a delete that matches no key succeeds with deleted 0 and does not raise the revision", function*(kv) {
    const before = yield* revisionOf(kv)
    for (const range of [KeyRange.key("k"), KeyRange.prefix("none"), KeyRange.all]) {
      const response = yield* kv.deleteRange(range, { previous: true })
      assert.deepStrictEqual(response, { _tag: "Delete", revision: before, deleted: 0, previous: [] })
    }
    assert.strictEqual((yield* kv.delete("k")).deleted, 0)
    assert.strictEqual(yield* revisionOf(kv), before)
  }),

  test("of two deletes of a key, the second deletes nothing", function*(kv) {
    yield* kv.put("k", "v")
    const first = yield* kv.delete("k")
    const second = yield* kv.delete("k")
    assert.deepStrictEqual([first.deleted, second.deleted], [1, 0])
    assert.strictEqual(second.revision, first.revision)
  }),

  test("deleting a range raises the revision by one and can return the deleted entries in key order", function*(kv) {
    yield* kv.put("\u{10000}", "3")
    yield* kv.put("b", "1")
    yield* kv.put("\uffff", "2")
    const before = (yield* kv.put("a", "0")).revision
    const response = yield* kv.deleteRange(KeyRange.from("b"), { previous: true })
    assert.deepStrictEqual([response.deleted, response.revision], [3, before + 1n])
    assert.deepStrictEqual(
      response.previous.map((entry) => [entry.key, entry.lossyText]),
      [["b", "1"], ["\uffff", "2"], ["\u{10000}", "3"]]
    )
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["a"])
  }),

  test("every kind of range can be deleted", function*(kv) {
    const keys = ["a", "b", "b\u0000", "ba", "c", "\u{10ffff}"]
    const left = (range: KeyRange.KeyRange) =>
      putAll(kv, keys).pipe(
        (put) => Effect.andThen(kv.deleteRange(KeyRange.all), put),
        Effect.andThen(kv.deleteRange(range)),
        Effect.andThen(kv.range(KeyRange.all)),
        Effect.map(keysOf)
      )
    assert.deepStrictEqual(yield* left(KeyRange.key("b")), ["a", "b\u0000", "ba", "c", "\u{10ffff}"])
    assert.deepStrictEqual(yield* left(KeyRange.prefix("b")), ["a", "c", "\u{10ffff}"])
    assert.deepStrictEqual(yield* left(KeyRange.halfOpen("b", "c")), ["a", "c", "\u{10ffff}"])
    assert.deepStrictEqual(yield* left(KeyRange.closed("b", "ba")), ["a", "c", "\u{10ffff}"])
    assert.deepStrictEqual(yield* left(KeyRange.from("ba")), ["a", "b", "b\u0000"])
    assert.deepStrictEqual(yield* left(KeyRange.halfOpen("", "b")), ["b", "b\u0000", "ba", "c", "\u{10ffff}"])
    assert.deepStrictEqual(yield* left(KeyRange.all), [])
  }),

  test("a deleted key is missing and can be put again", function*(kv) {
    yield* kv.put("k", "1")
    yield* kv.delete("k")
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
    yield* kv.put("k", "2")
    assert.strictEqual(yield* textOf(kv, "k"), "2")
  }),

  test("a delete of a range can delete many keys", function*(kv) {
    const keys = Array.from({ length: 1500 }, (_, i) => `k/${String(i).padStart(4, "0")}`)
    yield* putAll(kv, keys)
    const before = yield* revisionOf(kv)
    const response = yield* kv.deleteRange(KeyRange.prefix("k/"), { previous: true })
    assert.deepStrictEqual([response.deleted, response.revision], [1500, before + 1n])
    assert.deepStrictEqual(response.previous.map((entry) => entry.key), keys)
  }),

  test("concurrent writes of several fibers are all applied, each exactly once", function*(kv) {
    const before = yield* revisionOf(kv)
    const revisions = yield* Effect.forEach(
      Array.from({ length: 200 }, (_, i) => i),
      (i) => Effect.map(kv.put(`k/${i % 50}`, `${i}`), (response) => response.revision),
      { concurrency: "unbounded" }
    )
    // Writes of different keys may share a revision, writes of one key never do, and every revision has a write.
    for (let key = 0; key < 50; key++) {
      assert.strictEqual(new Set(revisions.filter((_, i) => i % 50 === key)).size, 4)
    }
    assert.strictEqual(yield* revisionOf(kv), before + BigInt(new Set(revisions).size))
    const { entries } = yield* kv.range(KeyRange.prefix("k/"))
    assert.deepStrictEqual([entries.length, entries.every((entry) => entry.version === 4)], [50, true])
  })
])
