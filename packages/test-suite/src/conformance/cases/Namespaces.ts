/**
 * Namespaces: the keys under a prefix as a store of their own, from which no operation reaches outside.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { chapter, rejects, revisionOf, test } from "./Case.ts"
import { entryOf, keysOf, putAll, textOf, textsOf } from "./entries.ts"

const prefixes: ReadonlyArray<string> = [
  "app/",
  "a",
  "\u0000",
  "\u00ff",
  "\ud7ff",
  "\uffff",
  "\u{10ffff}",
  "x\u{10ffff}"
]

/** Keys just outside a prefix, which no range of the namespace may reach. */
const outside = (prefix: string): ReadonlyArray<string> =>
  [
    prefix,
    prefix.slice(0, -1),
    `${prefix.slice(0, -1)}\u0001`,
    "\u0000",
    "\u0000\u0000",
    "a0",
    "b",
    "zz",
    "\ud7fe\u{10ffff}",
    "\ue000",
    "\ufffe",
    "\u{10000}",
    "\u{10fffe}\u{10ffff}",
    "x\u{10fffe}",
    "y"
  ].filter((key, i, all) => key.length > 0 && key.isWellFormed() && all.indexOf(key) === i)
    .filter((key) => key === prefix || !key.startsWith(prefix))

const hostileBounds: ReadonlyArray<string> = [
  "",
  "\u0000",
  "a",
  "app/",
  "..",
  "\u00ff",
  "\ud7ff",
  "\uffff",
  "\u{10ffff}",
  "\u{10ffff}\u{10ffff}",
  "zzzz"
]

/** Every valid range with hostile bounds. */
const hostileRanges: ReadonlyArray<KeyRange.KeyRange> = hostileBounds.flatMap((a) => [
  KeyRange.prefix(a),
  KeyRange.from(a),
  KeyRange.key(a),
  ...hostileBounds.flatMap((b) => [KeyRange.halfOpen(a, b), KeyRange.closed(a, b)])
]).filter((range) => KeyRange.invalid(range) === undefined)

export const cases = chapter("namespaces", [
  test("every operation of a namespace takes and returns keys without the prefix", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    yield* app.put("a", "1")
    yield* app.put("b", "2")
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["app/a", "app/b"])
    assert.strictEqual(yield* textOf(app, "a"), "1")
    assert.strictEqual((yield* entryOf(app, "a")).key, "a")
    assert.deepStrictEqual(keysOf(yield* app.range(KeyRange.all)), ["a", "b"])
    assert.deepStrictEqual(keysOf(yield* app.range(KeyRange.closed("a", "a"))), ["a"])
    const streamed = yield* Stream.runCollect(app.rangeStream(KeyRange.all, { pageSize: 1 }))
    assert.deepStrictEqual(streamed.map((entry) => entry.key), ["a", "b"])
    assert.strictEqual(yield* app.count(KeyRange.all), 2)
    assert.strictEqual(Option.getOrThrow((yield* app.put("a", "3", { previous: true })).previous).key, "a")
    assert.isTrue(yield* app.testAndSet("a", Option.some("3"), "4"))
    assert.strictEqual(yield* app.modify("a", Option.getOrElse(() => "wrong")), "4")
    const deleted = yield* app.deleteRange(KeyRange.all, { previous: true })
    assert.deepStrictEqual(deleted.previous.map((entry) => [entry.key, entry.lossyText]), [["a", "4"], ["b", "2"]])
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("every part of a transaction in a namespace takes and returns keys without the prefix", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    yield* putAll(app, ["a", "b"])
    yield* kv.put("c", "outside")
    const response = yield* app.txn({
      if: [
        Compare.exists("a"),
        Compare.missing("c"),
        Compare.value("a", "=", "value of a"),
        Compare.version("a", "=", 1),
        Compare.modRevision("a", ">", 0n),
        Compare.lease("a", "=", 0n)
      ],
      then: [
        Op.range(KeyRange.all),
        Op.put("a", "2", { previous: true }),
        Op.deleteRange(KeyRange.halfOpen("b", "c"), { previous: true }),
        Op.txn({ if: [Compare.missing("a")], else: [Op.get("a"), Op.put("c", "3", { previous: true })] })
      ]
    })
    if (!response.succeeded) return assert.fail("the conditions hold in the namespace")
    const [range, put, deleted, nested] = response.responses
    assert.deepStrictEqual(keysOf(range), ["a", "b"])
    assert.strictEqual(Option.getOrThrow(put.previous).key, "a")
    assert.deepStrictEqual(deleted.previous.map((entry) => entry.key), ["b"])
    assert.deepStrictEqual(nested.succeeded ? [] : keysOf(nested.responses[0]), ["a"])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["app/a", "app/c", "c"])
  }),

  test("an entry read through a namespace differs from the stored entry only in its key", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    const value = Uint8Array.of(0, 255, 128)
    yield* kv.put("app/k", "1")
    yield* kv.put("app/k", value, { lease: id })
    const raw = yield* entryOf(kv, "app/k")
    const entry = yield* entryOf(Kv.prefixed(kv, "app/"), "k")
    assert.deepStrictEqual(entry.value, value)
    assert.deepStrictEqual(
      [entry.createRevision, entry.modRevision, entry.version, entry.lease],
      [raw.createRevision, raw.modRevision, 2, Option.some(id)]
    )
  }),

  test("no read in a namespace reaches outside of it, whatever its bounds", function*(kv) {
    const inside = ["\u0000", "a", "app/", "b", "\uffff", "\u{10ffff}", "\u{10ffff}\u{10ffff}a"]
    for (const prefix of prefixes) {
      yield* kv.deleteRange(KeyRange.all)
      yield* putAll(kv, [...inside.map((key) => prefix + key), ...outside(prefix)])
      const app = Kv.prefixed(kv, prefix)
      for (const range of hostileRanges) {
        const expected = inside.filter((key) => KeyRange.contains(range, key))
        const response = yield* app.range(range)
        assert.deepStrictEqual(keysOf(response), expected, `${JSON.stringify(prefix)} ${JSON.stringify(range)}`)
        assert.strictEqual(response.count, expected.length)
      }
    }
  }),

  test("no delete in a namespace reaches outside of it, whatever its bounds", function*(kv) {
    for (const prefix of prefixes) {
      const others = outside(prefix).toSorted(KeyRange.compareKeys)
      for (const range of [KeyRange.all, KeyRange.from("\u0000"), KeyRange.halfOpen("", "\u{10ffff}\u{10ffff}")]) {
        yield* kv.deleteRange(KeyRange.all)
        yield* putAll(kv, [...others, `${prefix}a`, `${prefix}\u{10000}`])
        const response = yield* Kv.prefixed(kv, prefix).deleteRange(range)
        assert.strictEqual(response.deleted, 2)
        assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), others)
      }
    }
  }),

  test("an empty key is rejected in a namespace too", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    yield* kv.put("app/", "outside")
    yield* rejects(kv, "InvalidRequest", app.put("", "v"))
    yield* rejects(kv, "InvalidRequest", app.get(""))
    yield* rejects(kv, "InvalidRequest", app.delete(""))
    yield* rejects(kv, "InvalidRequest", app.txn({ if: [Compare.exists("")] }))
    yield* rejects(kv, "InvalidRequest", app.txn({ then: [Op.txn({ else: [Op.put("", "v")] })] }))
    yield* rejects(kv, "InvalidRequest", Effect.scoped(backendOf(app).watch({ range: KeyRange.key("") })))
    assert.strictEqual(yield* textOf(kv, "app/"), "outside")
  }),

  test("an invalid operation is rejected in a namespace too", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    const revision = (yield* revisionOf(kv)) + 10n
    yield* rejects(kv, "InvalidRequest", app.put("\ude00", "v"))
    yield* rejects(kv, "InvalidRequest", app.range(KeyRange.halfOpen("b", "a")))
    yield* rejects(kv, "InvalidRequest", app.deleteRange({ _tag: "Prefix", prefix: "a", from: "b" }))
    yield* rejects(kv, "InvalidRequest", app.txn({ then: [Op.put("k", "v"), Op.put("k", "v")] }))
    yield* rejects(kv, "LeaseNotFound", app.put("k", "v", { lease: 4711n }))
    yield* rejects(kv, "FutureRevision", app.get("k", { revision }))
  }),

  test("a namespace whose prefix ends in a lone surrogate is rejected", function*(kv) {
    const app = Kv.prefixed(kv, "app/\ud83d")
    yield* rejects(kv, "InvalidRequest", app.put("\ude00", "v"))
    yield* rejects(kv, "InvalidRequest", app.range(KeyRange.all))
    yield* rejects(kv, "InvalidRequest", Effect.scoped(backendOf(app).watch({ range: KeyRange.all })))
  }),

  test("two namespaces do not see each other's keys", function*(kv) {
    const a = Kv.prefixed(kv, "a/")
    const b = Kv.prefixed(kv, "b/")
    yield* a.put("k", "of a")
    yield* b.put("k", "of b")
    assert.deepStrictEqual([yield* textOf(a, "k"), yield* textOf(b, "k")], ["of a", "of b"])
    yield* a.deleteRange(KeyRange.all)
    assert.deepStrictEqual(textsOf(yield* b.range(KeyRange.all)), ["of b"])
  }),

  test("a namespace can be made within a namespace", function*(kv) {
    const inner = Kv.prefixed("c/")(Kv.prefixed(kv, "a/b/"))
    yield* inner.put("k", "v")
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["a/b/c/k"])
    assert.deepStrictEqual(keysOf(yield* inner.range(KeyRange.all)), ["k"])
    assert.deepStrictEqual(keysOf(yield* Kv.prefixed(kv, "a/").range(KeyRange.all)), ["b/c/k"])
    assert.strictEqual((yield* inner.deleteRange(KeyRange.prefix("k"), { previous: true })).previous[0]?.key, "k")
  }),

  test("a namespace with an empty prefix is the whole store", function*(kv) {
    yield* Kv.prefixed(kv, "").put("k", "v")
    assert.strictEqual(yield* textOf(kv, "k"), "v")
  }),

  test("a lease read through a namespace lists the keys of the namespace, without the prefix", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    const { id } = yield* backendOf(app).leaseGrant({ ttl: "1 hour" })
    yield* Effect.forEach(["b", "a"], (key) => app.put(key, "v", { lease: id }))
    yield* Effect.forEach(["app", "app/", "other"], (key) => kv.put(key, "v", { lease: id }))
    assert.deepStrictEqual((yield* backendOf(app).leaseTimeToLive(id, { keys: true })).keys, ["a", "b"])
    yield* backendOf(app).leaseKeepAlive(id)
    yield* backendOf(app).leaseRevoke(id)
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("a layer confines a program to a namespace", function*(kv) {
    const layer = Layer.provide(Kv.layerPrefixed("app/"), Layer.succeed(Kv.Kv, kv))
    yield* Effect.provide(Kv.put("k", "v"), layer)
    assert.strictEqual(yield* textOf(kv, "app/k"), "v")
  })
])
