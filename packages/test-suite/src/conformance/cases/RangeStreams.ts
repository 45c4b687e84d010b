/**
 * Streams of a range: read in pages, all at one revision.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { chapter, reasonOf, rejects, Store, test } from "./Case.ts"
import { putAll } from "./entries.ts"

const numbered = (n: number): ReadonlyArray<string> =>
  Array.from({ length: n }, (_, i) => `k/${String(i).padStart(5, "0")}`)

export const cases = chapter("range streams", [
  test("a streamed range has the same entries as a read, whatever the page size", function*(kv) {
    const keys = numbered(12)
    yield* putAll(kv, ["a", ...keys, "z"])
    for (const pageSize of [1, 2, 3, 4, 5, 11, 12, 13, 1000, undefined]) {
      const entries = yield* Stream.runCollect(kv.rangeStream(KeyRange.prefix("k/"), { pageSize }))
      assert.deepStrictEqual(entries.map((entry) => entry.key), keys)
      assert.isTrue(entries.every((entry) => entry.lossyText === `value of ${entry.key}`))
    }
  }),

  test("every kind of range can be streamed", function*(kv) {
    yield* putAll(kv, ["a", "b", "b\u0000", "c", "\u{10ffff}"])
    const keysOf = (range: KeyRange.KeyRange) =>
      Effect.map(Stream.runCollect(kv.rangeStream(range, { pageSize: 1 })), (entries) => entries.map(({ key }) => key))
    assert.deepStrictEqual(yield* keysOf(KeyRange.all), ["a", "b", "b\u0000", "c", "\u{10ffff}"])
    assert.deepStrictEqual(yield* keysOf(KeyRange.from("b")), ["b", "b\u0000", "c", "\u{10ffff}"])
    assert.deepStrictEqual(yield* keysOf(KeyRange.halfOpen("a", "c")), ["a", "b", "b\u0000"])
    assert.deepStrictEqual(yield* keysOf(KeyRange.closed("b", "c")), ["b", "b\u0000", "c"])
    assert.deepStrictEqual(yield* keysOf(KeyRange.prefix("b")), ["b", "b\u0000"])
    assert.deepStrictEqual(yield* keysOf(KeyRange.key("b")), ["b"])
    assert.deepStrictEqual(yield* keysOf(KeyRange.prefix("none")), [])
  }),

  test("all pages of a stream are read at one revision, even if every key is overwritten meanwhile", function*(kv) {
    const keys = numbered(40)
    yield* putAll(kv, keys, () => "before")
    let seen = 0
    const meddle = Effect.suspend(() => {
      switch (++seen) {
        case 3:
          return putAll(kv, [...keys, "k/00000a", "k/99999"], () => "after")
        case 12:
          return kv.deleteRange(KeyRange.halfOpen("k/00015", "k/00030"))
        case 25:
          return kv.deleteRange(KeyRange.all)
        default:
          return Effect.void
      }
    })
    const entries = yield* kv.rangeStream(KeyRange.prefix("k/"), { pageSize: 4 }).pipe(
      Stream.tap(() => meddle),
      Stream.runCollect
    )
    assert.deepStrictEqual(entries.map((entry) => entry.key), keys)
    assert.isTrue(entries.every((entry) => entry.lossyText === "before"))
  }),

  test("a range can be streamed at a past revision", function*(kv) {
    yield* putAll(kv, numbered(5), () => "before")
    const { revision } = yield* kv.put("other", "-")
    yield* putAll(kv, numbered(10), () => "after")
    const entries = yield* Stream.runCollect(kv.rangeStream(KeyRange.prefix("k/"), { pageSize: 2, revision }))
    assert.deepStrictEqual(
      entries.map((entry) => [entry.key, entry.lossyText]),
      numbered(5).map((key) => [key, "before"])
    )
  }),

  test("a stream can return keys only", function*(kv) {
    yield* putAll(kv, numbered(5))
    const entries = yield* Stream.runCollect(kv.rangeStream(KeyRange.all, { pageSize: 2, keysOnly: true }))
    assert.deepStrictEqual(entries.map((entry) => [entry.key, entry.size]), numbered(5).map((key) => [key, 0]))
  }),

  test(
    "a stream whose revision is compacted fails with Compacted, and emits no entry of another revision",
    function*(kv) {
      const store = yield* Store
      yield* putAll(kv, numbered(10), () => "before")
      const seen: Array<string> = []
      const overwriteAndCompact = Effect.gen(function*() {
        yield* putAll(kv, numbered(10), () => "after")
        const { revision } = yield* kv.put("other", "-")
        yield* Effect.orDie(store.compact(revision))
      })
      const reason = yield* reasonOf(
        kv.rangeStream(KeyRange.prefix("k/"), { pageSize: 2 }).pipe(
          Stream.runForEach((entry) => {
            seen.push(entry.lossyText)
            return seen.length === 2 ? overwriteAndCompact : Effect.void
          })
        )
      )
      assert.strictEqual(reason._tag, "Compacted")
      assert.isTrue(seen.length < 10 && seen.every((text) => text === "before"))
    }
  ),

  test("a stream that is not consumed to its end leaves nothing behind", function*(kv) {
    yield* putAll(kv, numbered(50))
    const entries = yield* kv.rangeStream(KeyRange.all, { pageSize: 3 }).pipe(Stream.take(7), Stream.runCollect)
    assert.deepStrictEqual(entries.map((entry) => entry.key), numbered(7))
    yield* kv.put("after", "v")
  }),

  test("a stream with an invalid range or page size is rejected", function*(kv) {
    yield* rejects(kv, "InvalidRequest", Stream.runDrain(kv.rangeStream(KeyRange.key(""))))
    for (const pageSize of [0, -1, 0.5]) {
      yield* rejects(kv, "InvalidRequest", Stream.runDrain(kv.rangeStream(KeyRange.all, { pageSize })))
    }
  })
])
