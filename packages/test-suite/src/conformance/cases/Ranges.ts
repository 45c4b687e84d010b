/**
 * Ranges: which keys they contain, and what a read of them returns.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { chapter, rejects, revisionOf, test } from "./Case.ts"
import { keysOf, putAll, textsOf } from "./entries.ts"

const rangeKeys = (kv: Kv.Kv, range: KeyRange.KeyRange, options?: Op.RangeOptions) =>
  Effect.map(kv.range(range, options), keysOf)

/** A prefix, and keys just before and just after the keys that begin with it. */
const prefixNeighbours: ReadonlyArray<readonly [before: string, prefix: string, after: string]> = [
  ["a", "b", "c"],
  ["/a\u{10ffff}", "/b/", "/b0"],
  ["a\u0000", "a\u007f", "a\u0080"],
  ["a\u007f\u007f", "a\u0080", "a\u0081"],
  ["\u07fe\u{10ffff}", "\u07ff", "\u0800"],
  ["\u00e9", "\u00ea", "\u00eb"],
  ["\u00fe\u{10ffff}", "\u00ff", "\u0100"],
  ["\ud7fe", "\ud7ff", "\ue000"],
  ["\ufffe", "\uffff", "\u{10000}"],
  ["\u{1f5ff}", "\u{1f600}", "\u{1f601}"],
  ["\u{10fffe}\u{10ffff}", "\u{10ffff}", "\u{10ffff}"]
]

export const cases = chapter("ranges", [
  test("a half-open range includes its start and excludes its end", function*(kv) {
    yield* putAll(kv, ["a", "b", "ba", "c", "d"])
    assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.halfOpen("b", "d")), ["b", "ba", "c"])
    assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.halfOpen("aa", "c")), ["b", "ba"])
  }),

  test("a half-open range with an empty start begins at the first key", function*(kv) {
    yield* putAll(kv, ["\u0000", "a", "b"])
    assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.halfOpen("", "b")), ["\u0000", "a"])
  }),

  test("a closed range includes its start and its end, and no key after it", function*(kv) {
    yield* putAll(kv, ["a", "b", "ba", "c", "c\u0000", "ca"])
    assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.closed("b", "c")), ["b", "ba", "c"])
    assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.closed("b", "b")), ["b"])
  }),

  test("a prefix range contains the keys that begin with the prefix, and no others", function*(kv) {
    for (const [before, prefix, after] of prefixNeighbours) {
      yield* kv.deleteRange(KeyRange.all)
      const inside = [prefix, `${prefix}\u0000`, `${prefix}a`, `${prefix}\uffff`, `${prefix}\u{10ffff}`]
      yield* putAll(kv, [...new Set([before, after, ...inside])])
      assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.prefix(prefix)), inside, JSON.stringify(prefix))
    }
  }),

  test("a prefix range of a single NUL contains the keys that begin with NUL", function*(kv) {
    yield* putAll(kv, ["\u0000", "\u0000\u0000", "\u0000a", "\u0001", "a"])
    assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.prefix("\u0000")), ["\u0000", "\u0000\u0000", "\u0000a"])
  }),

  test("a from range contains every key from its start to the end of the key space", function*(kv) {
    yield* putAll(kv, ["a", "b", "c", "\u{10ffff}", "\u{10ffff}\u{10ffff}"])
    assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.from("b")), ["b", "c", "\u{10ffff}", "\u{10ffff}\u{10ffff}"])
  }),

  test("KeyRange.all, the empty prefix and the from range of \"\" contain every key", function*(kv) {
    const keys = ["\u0000", "a", "z", "\u{10ffff}"]
    yield* putAll(kv, keys)
    for (const range of [KeyRange.all, KeyRange.prefix(""), KeyRange.from("")]) {
      assert.deepStrictEqual(yield* rangeKeys(kv, range), keys)
    }
  }),

  test("a range of one key contains only that key", function*(kv) {
    yield* putAll(kv, ["a", "a\u0000", "aa"])
    assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.key("a")), ["a"])
    assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.key("ab")), [])
  }),

  test("an empty or inverted range is rejected", function*(kv) {
    for (
      const range of [
        KeyRange.halfOpen("b", "a"),
        KeyRange.halfOpen("a", "a"),
        KeyRange.halfOpen("a", ""),
        KeyRange.halfOpen("", ""),
        KeyRange.halfOpen("", "\u0000"),
        KeyRange.closed("", ""),
        KeyRange.closed("b", "a"),
        KeyRange.halfOpen("\u{10000}", "\uffff")
      ]
    ) {
      yield* rejects(kv, "InvalidRequest", kv.range(range))
      yield* rejects(kv, "InvalidRequest", kv.deleteRange(range))
      yield* rejects(kv, "InvalidRequest", Effect.scoped(backendOf(kv).watch({ range })))
    }
  }),

  test("a prefix range whose start is outside its prefix is rejected", function*(kv) {
    const escaping: KeyRange.KeyRange = { _tag: "Prefix", prefix: "a/", from: "b" }
    yield* rejects(kv, "InvalidRequest", kv.range(escaping))
    yield* rejects(kv, "InvalidRequest", kv.deleteRange(escaping))
  }),

  test("a read that matches no key succeeds with no entries", function*(kv) {
    const revision = yield* revisionOf(kv)
    const response = yield* kv.range(KeyRange.prefix("none/"))
    assert.deepStrictEqual(response, { _tag: "Range", revision, entries: [], count: 0, more: false })
  }),

  test("a limited read returns the full count and whether there are more entries", function*(kv) {
    yield* putAll(kv, ["a", "b", "c", "d"])
    const some = yield* kv.range(KeyRange.all, { limit: 3 })
    assert.deepStrictEqual([keysOf(some), some.more, some.count], [["a", "b", "c"], true, 4])
    for (const limit of [4, 5, 1_000_000]) {
      const full = yield* kv.range(KeyRange.all, { limit })
      assert.deepStrictEqual([keysOf(full), full.more, full.count], [["a", "b", "c", "d"], false, 4])
    }
  }),

  test("a limit that is not a positive integer is rejected", function*(kv) {
    for (const limit of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      yield* rejects(kv, "InvalidRequest", kv.range(KeyRange.all, { limit }))
    }
  }),

  test("entries can be ordered by key, create revision, mod revision or version, in either direction", function*(kv) {
    yield* kv.put("c", "1")
    yield* kv.put("a", "1")
    yield* kv.put("b", "1")
    yield* kv.put("a", "2")
    yield* kv.put("a", "3")
    yield* kv.put("c", "2")
    const orders: ReadonlyArray<readonly [Op.OrderBy, ReadonlyArray<string>]> = [
      ["key", ["a", "b", "c"]],
      ["createRevision", ["c", "a", "b"]],
      ["modRevision", ["b", "a", "c"]],
      ["version", ["b", "c", "a"]]
    ]
    for (const [by, ascending] of orders) {
      assert.deepStrictEqual(yield* rangeKeys(kv, KeyRange.all, { order: { by } }), ascending, by)
      assert.deepStrictEqual(
        yield* rangeKeys(kv, KeyRange.all, { order: { by, direction: "ascending" } }),
        ascending,
        by
      )
      const descending = ascending.toReversed()
      assert.deepStrictEqual(
        yield* rangeKeys(kv, KeyRange.all, { order: { by, direction: "descending" } }),
        descending,
        by
      )
      const limited = yield* kv.range(KeyRange.all, { order: { by, direction: "descending" }, limit: 2 })
      assert.deepStrictEqual([keysOf(limited), limited.more, limited.count], [descending.slice(0, 2), true, 3], by)
    }
  }),

  test("a keysOnly read returns entries with revisions and versions, without values and leases", function*(kv) {
    const lease = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    const { revision } = yield* kv.put("a", "value", { lease: lease.id })
    const [entry] = (yield* kv.range(KeyRange.all, { keysOnly: true })).entries
    const read = Op.range(KeyRange.all, { keysOnly: true })
    const inTxn = yield* kv.txn({ then: [read] })
    assert.deepStrictEqual(inTxn.succeeded && inTxn.responses[0].entries[0], entry)
    assert.deepStrictEqual([entry?.key, entry?.lossyText, entry?.size, entry?.lease], ["a", "", 0, Option.none()])
    assert.deepStrictEqual([entry?.modRevision, entry?.createRevision, entry?.version], [revision, revision, 1])
  }),

  test("a countOnly read returns the count and no entries", function*(kv) {
    yield* putAll(kv, ["a", "b", "c"])
    const response = yield* kv.range(KeyRange.all, { countOnly: true })
    assert.deepStrictEqual([response.entries, response.count, response.more], [[], 3, false])
    assert.strictEqual(yield* kv.count(KeyRange.from("b")), 2)
    assert.strictEqual(yield* kv.count(KeyRange.key("c")), 1)
    assert.strictEqual(yield* kv.count(KeyRange.key("d")), 0)
  }),

  test("filters on mod and create revision select entries but do not change the count", function*(kv) {
    const a1 = (yield* kv.put("a", "1")).revision
    const b1 = (yield* kv.put("b", "1")).revision
    const c1 = (yield* kv.put("c", "1")).revision
    const a2 = (yield* kv.put("a", "2")).revision
    const filters: ReadonlyArray<readonly [Op.RangeOptions, ReadonlyArray<string>]> = [
      [{ minModRevision: c1 }, ["a", "c"]],
      [{ maxModRevision: c1 }, ["b", "c"]],
      [{ minModRevision: b1, maxModRevision: b1 }, ["b"]],
      [{ minCreateRevision: b1 }, ["b", "c"]],
      [{ maxCreateRevision: b1 }, ["a", "b"]],
      [{ maxCreateRevision: a1, minModRevision: a2 }, ["a"]],
      [{ minModRevision: a2 + 1n }, []]
    ]
    for (const [options, keys] of filters) {
      const response = yield* kv.range(KeyRange.all, options)
      assert.deepStrictEqual([keysOf(response), response.count, response.more], [keys, 3, false])
    }
    const limited = yield* kv.range(KeyRange.all, { minModRevision: b1, limit: 2 })
    assert.deepStrictEqual([keysOf(limited), limited.count, limited.more], [["a", "b"], 3, true])
    const all = yield* kv.range(KeyRange.all, { maxCreateRevision: b1, limit: 2 })
    assert.deepStrictEqual([keysOf(all), all.count, all.more], [["a", "b"], 3, false])
  }),

  test("a serializable read returns the entries of the range", function*(kv) {
    yield* putAll(kv, ["a", "b"])
    const response = yield* kv.range(KeyRange.all, { serializable: true })
    assert.deepStrictEqual(textsOf(response), ["value of a", "value of b"])
  }),

  test("the response to a read has the revision of the store", function*(kv) {
    const { revision } = yield* kv.put("a", "1")
    assert.strictEqual((yield* kv.range(KeyRange.key("b"))).revision, revision)
    const next = (yield* kv.put("a", "2")).revision
    assert.strictEqual((yield* kv.range(KeyRange.all)).revision, next)
  }),

  test("a response larger than the message limit is complete", function*(kv) {
    const value = "x".repeat(1_000_000)
    for (const key of ["a", "b", "c", "d", "e", "f"]) yield* kv.put(key, `${key}${value}`)
    const response = yield* kv.range(KeyRange.all)
    assert.deepStrictEqual(keysOf(response), ["a", "b", "c", "d", "e", "f"])
    assert.isTrue(response.entries.every((entry) => entry.lossyText === `${entry.key}${value}`))
  })
])
