/**
 * Revisions: past states of the store can be read until they are compacted.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { chapter, type Environment, reasonOf, rejects, revisionOf, Store, test } from "./Case.ts"
import { entryOf, keysOf, putAll, textOf, textsOf } from "./entries.ts"

const textAt = (kv: Kv.Kv, key: string, revision: bigint) =>
  Effect.map(kv.get(key, { revision }), Option.getOrUndefined)

export const cases = chapter("revisions", [
  test("a key can be read at a past revision", function*(kv) {
    const { revision: r1 } = yield* kv.put("other", "-")
    const { revision: r2 } = yield* kv.put("k", "1")
    const { revision: r3 } = yield* kv.put("k", "2")
    const { revision: r4 } = yield* kv.delete("k")
    const { revision: r5 } = yield* kv.put("k", "3")
    assert.deepStrictEqual(
      yield* Effect.forEach([r1, r2, r3, r4, r5], (revision) => textAt(kv, "k", revision)),
      [undefined, "1", "2", undefined, "3"]
    )
    const entry = Option.getOrThrow(yield* kv.getEntry("k", { revision: r3 }))
    assert.deepStrictEqual([entry.createRevision, entry.modRevision, entry.version], [r2, r3, 2])
  }),

  test("a range can be read and counted at a past revision", function*(kv) {
    yield* kv.put("a", "1")
    const { revision } = yield* kv.put("b", "1")
    yield* kv.put("c", "1")
    yield* kv.put("a", "2")
    yield* kv.delete("b")
    const then = yield* kv.range(KeyRange.all, { revision })
    assert.deepStrictEqual([keysOf(then), textsOf(then), then.count], [["a", "b"], ["1", "1"], 2])
    assert.strictEqual(yield* kv.count(KeyRange.all, { revision }), 2)
    const limited = yield* kv.range(KeyRange.all, { revision, limit: 1, order: { by: "key", direction: "descending" } })
    assert.deepStrictEqual([keysOf(limited), limited.more, limited.count], [["b"], true, 2])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["a", "c"])
  }),

  test("a limited read at a past revision ignores keys created or deleted since", function*(kv) {
    yield* putAll(kv, ["c", "d", "e", "f", "gone"])
    const { revision } = yield* kv.put("g", "v")
    yield* putAll(kv, ["a", "b", "dd", "h", "i"])
    yield* kv.delete("gone")
    yield* kv.delete("c")
    const read = (limit: number, direction: "ascending" | "descending") =>
      Effect.map(
        kv.range(KeyRange.all, { revision, limit, order: { by: "key", direction } }),
        (response) => [keysOf(response).join(" "), response.more, response.count]
      )
    assert.deepStrictEqual(yield* read(1, "ascending"), ["c", true, 6])
    assert.deepStrictEqual(yield* read(5, "ascending"), ["c d e f g", true, 6])
    assert.deepStrictEqual(yield* read(6, "ascending"), ["c d e f g gone", false, 6])
    assert.deepStrictEqual(yield* read(1, "descending"), ["gone", true, 6])
    assert.deepStrictEqual(yield* read(3, "descending"), ["gone g f", true, 6])
  }),

  test("the response to a read at a past revision has the current revision", function*(kv) {
    const { revision } = yield* kv.put("k", "1")
    const { revision: now } = yield* kv.put("k", "2")
    assert.strictEqual((yield* kv.range(KeyRange.all, { revision })).revision, now)
  }),

  test("a transaction can read at a past revision", function*(kv) {
    const { revision } = yield* kv.put("k", "1")
    yield* kv.put("k", "2")
    const { revision: latest } = yield* kv.put("other", "-")
    const response = yield* kv.txn({
      then: [
        Op.put("k", "3"),
        Op.get("k", { revision }),
        Op.get("k", { revision: latest }),
        Op.range(KeyRange.key("k"), { revision: latest, limit: 1 }),
        Op.range(KeyRange.prefix("k"), { revision: latest }),
        Op.get("k")
      ]
    })
    if (!response.succeeded) return assert.fail("it has no conditions")
    const [, ...reads] = response.responses
    assert.deepStrictEqual(reads.map(textsOf), [["1"], ["2"], ["2"], ["2"], ["3"]])
  }),

  test("all writes of a transaction are visible at its revision and none before it", function*(kv) {
    yield* kv.put("a", "1")
    const { revision } = yield* kv.txn({ then: [Op.put("a", "2"), Op.put("b", "2"), Op.put("c", "2")] })
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all, { revision: revision - 1n })), ["a"])
    assert.deepStrictEqual(textsOf(yield* kv.range(KeyRange.all, { revision })), ["2", "2", "2"])
  }),

  test("a read at a past revision is ordered by the revisions and versions of that time", function*(kv) {
    yield* kv.put("a", "1")
    yield* kv.put("a", "2")
    const { revision } = yield* kv.put("b", "1")
    yield* kv.put("b", "2")
    yield* kv.put("b", "3")
    const byVersion = { order: { by: "version", direction: "descending" } } as const
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all, { revision, ...byVersion })), ["a", "b"])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all, byVersion)), ["b", "a"])
  }),

  test("a read at a future revision fails with FutureRevision", function*(kv) {
    const now = (yield* kv.put("k", "v")).revision
    for (const revision of [now + 1n, now + 1000n, 2n ** 63n - 1n]) {
      yield* rejects(kv, "FutureRevision", kv.get("k", { revision }))
      yield* rejects(kv, "FutureRevision", kv.count(KeyRange.all, { revision }))
      yield* rejects(kv, "FutureRevision", kv.txn({ then: [Op.get("k", { revision })] }))
    }
    assert.strictEqual(yield* textAt(kv, "k", now), "v")
  }),

  test("a read at a revision that is not a positive 64-bit integer is rejected", function*(kv) {
    for (const revision of [0n, -1n, 2n ** 63n, -(2n ** 70n)]) {
      yield* rejects(kv, "InvalidRequest", kv.get("k", { revision }))
      yield* rejects(kv, "InvalidRequest", kv.range(KeyRange.all, { minModRevision: revision }))
      yield* rejects(kv, "InvalidRequest", kv.range(KeyRange.all, { maxModRevision: revision }))
      yield* rejects(kv, "InvalidRequest", kv.range(KeyRange.all, { minCreateRevision: revision }))
      yield* rejects(kv, "InvalidRequest", kv.range(KeyRange.all, { maxCreateRevision: revision }))
    }
  }),

  test("reads before the compacted revision fail with Compacted; later ones succeed", function*(kv) {
    const store = yield* Store
    const { revision: r1 } = yield* kv.put("k", "1")
    const { revision: r2 } = yield* kv.put("k", "2")
    const { revision: r3 } = yield* kv.put("k", "3")
    yield* store.compact(r2)
    const reason = yield* rejects(kv, "Compacted", kv.get("k", { revision: r1 }))
    // Reads on etcd do not report the compacted revision, so it may be unknown.
    assert.isTrue(reason._tag === "Compacted" && Option.getOrElse(reason.compactRevision, () => r2) === r2)
    yield* rejects(kv, "Compacted", kv.range(KeyRange.all, { revision: r1 }))
    yield* rejects(kv, "Compacted", kv.txn({ then: [Op.put("k", "no"), Op.get("k", { revision: r1 })] }))
    assert.deepStrictEqual([yield* textAt(kv, "k", r2), yield* textAt(kv, "k", r3)], ["2", "3"])
  }),

  test("a compaction keeps current entries with their revisions and versions", function*(kv) {
    const store = yield* Store
    const { revision: created } = yield* kv.put("old", "1")
    const { revision: modified } = yield* kv.put("old", "2")
    yield* kv.put("gone", "1")
    yield* kv.delete("gone")
    const { revision: now } = yield* kv.put("new", "1")
    yield* store.compact(now)
    const old = yield* entryOf(kv, "old")
    assert.deepStrictEqual([old.lossyText, old.createRevision, old.modRevision, old.version], [
      "2",
      created,
      modified,
      2
    ])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all, { revision: now })), ["new", "old"])
    assert.strictEqual(yield* textOf(kv, "gone"), undefined)
    yield* kv.put("old", "3")
    assert.strictEqual((yield* entryOf(kv, "old")).version, 3)
  }),

  test("a compaction keeps the entries at its revision for reads at that revision", function*(kv) {
    const store = yield* Store
    yield* kv.put("overwritten", "1")
    yield* kv.put("deleted", "1")
    const { revision } = yield* kv.put("other", "-")
    yield* kv.put("overwritten", "2")
    yield* kv.delete("deleted")
    yield* store.compact(revision)
    const then = yield* kv.range(KeyRange.all, { revision })
    assert.deepStrictEqual([keysOf(then), textsOf(then)], [["deleted", "other", "overwritten"], ["1", "-", "1"]])
  }),

  test("keys with a lease that one client creates concurrently have distinct create revisions", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    const creates = Array.from({ length: 50 }, (_, i): ReadonlyArray<Effect.Effect<unknown, unknown, Environment>> => [
      kv.put(`put/${i}`, "v", { lease: id }),
      Effect.provideService(TempKey.make(`temp/${i}`), Kv.Kv, kv),
      kv.testAndSet(`set/${i}`, Option.none(), "v", { lease: id }),
      kv.txn({
        then: [Op.txn({ if: [Compare.missing(`nested/${i}`)], then: [Op.put(`nested/${i}`, "v", { lease: id })] })]
      }),
      kv.put(`plain/${i}`, "v")
    ]).flat()
    yield* Effect.forEach(creates, (create) => create, { concurrency: "unbounded" })
    const { entries } = yield* kv.range(KeyRange.all)
    const leased = entries.filter((entry) => Option.isSome(entry.lease))
    assert.strictEqual(leased.length, 200)
    const plain = entries.filter((entry) => Option.isNone(entry.lease)).map((entry) => entry.createRevision)
    assert.strictEqual(new Set(leased.map((entry) => entry.createRevision)).size, leased.length)
    assert.isTrue(
      leased.every((entry) => !plain.includes(entry.createRevision)),
      "and none of them is the revision of a put without a lease"
    )
  }),

  test("a compaction does not raise the revision", function*(kv) {
    const store = yield* Store
    const { revision } = yield* kv.put("k", "v")
    yield* store.compact(revision)
    assert.strictEqual(yield* revisionOf(kv), revision)
    assert.strictEqual((yield* kv.put("k", "w")).revision, revision + 1n)
  }),

  test("every client can read at a past revision", function*(kv) {
    const { revision } = yield* kv.put("k", "1")
    yield* kv.put("k", "2")
    const store = yield* Store
    const other = yield* store.client
    assert.strictEqual(yield* textAt(other, "k", revision), "1")
    assert.strictEqual((yield* reasonOf(other.get("k", { revision: revision + 50n })))._tag, "FutureRevision")
  })
])
