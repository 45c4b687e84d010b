/**
 * Transactions: one of two branches runs, at one revision, all or nothing.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { chapter, newClient, rejects, revisionOf, Store, test } from "./Case.ts"
import { keysOf, putAll, textOf, textsOf } from "./entries.ts"

const putOps = (n: number, prefix = "k"): ReadonlyArray<Op.Put> =>
  Array.from({ length: n }, (_, i) => Op.put(`${prefix}${i}`, "v"))

export const cases = chapter("transactions", [
  test("a transaction runs its then branch or its else branch, never both", function*(kv) {
    const choose = (condition: Compare.Compare) =>
      kv.txn({ if: [condition], then: [Op.put("then", "ran")], else: [Op.put("else", "ran")] })
    assert.isTrue((yield* choose(Compare.missing("then"))).succeeded)
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["then"])
    assert.isFalse((yield* choose(Compare.missing("then"))).succeeded)
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["else", "then"])
  }),

  test("each operation of a transaction has its response at its place, with its own type", function*(kv) {
    yield* putAll(kv, ["a", "b", "c"])
    const response = yield* kv.txn({
      then: [
        Op.get("a"),
        Op.put("d", "new", { previous: true }),
        Op.deleteRange(KeyRange.halfOpen("b", "d"), { previous: true }),
        Op.txn({ if: [Compare.missing("none")], then: [Op.range(KeyRange.prefix("a"), { keysOnly: true })] }),
        Op.put("a", "changed", { previous: true })
      ]
    })
    assert.isTrue(response.succeeded)
    if (!response.succeeded) return
    const [get, put, deleted, nested, again] = response.responses
    assert.deepStrictEqual([textsOf(get), get.count, get.more], [["value of a"], 1, false])
    assert.deepStrictEqual(put.previous, Option.none())
    assert.deepStrictEqual([deleted.deleted, deleted.previous.map((entry) => entry.key)], [2, ["b", "c"]])
    assert.deepStrictEqual(Option.map(again.previous, (entry) => entry.lossyText), Option.some("value of a"))
    assert.isTrue(nested.succeeded && nested.responses[0].entries.length === 1)
    assert.deepStrictEqual(
      response.responses.map((inner) => inner.revision),
      [response.revision, response.revision, response.revision, response.revision, response.revision]
    )
  }),

  test("all writes of a transaction have one revision", function*(kv) {
    yield* kv.put("gone", "v")
    const before = yield* revisionOf(kv)
    const response = yield* kv.txn({
      then: [Op.put("a", "1"), Op.delete("gone"), Op.txn({ then: [Op.put("b", "2")] }), Op.put("c", "3")]
    })
    assert.strictEqual(response.revision, before + 1n)
    const { entries, revision } = yield* kv.range(KeyRange.all)
    assert.deepStrictEqual(entries.map((entry) => [entry.key, entry.modRevision]), [
      ["a", before + 1n],
      ["b", before + 1n],
      ["c", before + 1n]
    ])
    assert.strictEqual(revision, before + 1n)
  }),

  test("a transaction that writes nothing does not raise the revision", function*(kv) {
    const before = yield* revisionOf(kv)
    assert.strictEqual((yield* kv.txn({})).revision, before)
    assert.strictEqual((yield* kv.txn({ then: [Op.get("k"), Op.delete("none")] })).revision, before)
    assert.strictEqual((yield* kv.txn({ if: [Compare.exists("k")], then: [Op.put("k", "v")] })).revision, before)
    assert.strictEqual(yield* revisionOf(kv), before)
  }),

  test("an empty transaction succeeds with no responses", function*(kv) {
    const response = yield* kv.txn({})
    assert.deepStrictEqual([response.succeeded, response.responses], [true, []])
    const other = yield* kv.txn({ if: [Compare.exists("k")] })
    assert.deepStrictEqual([other.succeeded, other.responses], [false, []])
  }),

  test("operations of a transaction run in order: a read sees the writes before it", function*(kv) {
    yield* putAll(kv, ["a", "b"])
    const response = yield* kv.txn({
      then: [
        Op.range(KeyRange.all),
        Op.put("a", "1"),
        Op.put("c", "3"),
        Op.range(KeyRange.all),
        Op.delete("b"),
        Op.txn({ then: [Op.range(KeyRange.all)] })
      ]
    })
    if (!response.succeeded) return assert.fail("it has no conditions")
    const [before, , , between, , nested] = response.responses
    assert.deepStrictEqual(textsOf(before), ["value of a", "value of b"])
    assert.deepStrictEqual(textsOf(between), ["1", "value of b", "3"])
    assert.deepStrictEqual(nested.succeeded ? textsOf(nested.responses[0]) : [], ["1", "3"])
  }),

  test("conditions of a nested transaction see the store as it was before the outer transaction", function*(kv) {
    const response = yield* kv.txn({
      then: [
        Op.put("a", "1"),
        Op.txn({ if: [Compare.exists("a")], then: [Op.put("seen", "-")], else: [Op.put("unseen", "-")] })
      ]
    })
    assert.isTrue(response.succeeded && !response.responses[1].succeeded)
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["a", "unseen"])
  }),

  test("transactions nest, each with its own conditions and branches", function*(kv) {
    yield* kv.put("k", "v")
    const response = yield* kv.txn({
      if: [Compare.exists("k")],
      then: [
        Op.txn({
          if: [Compare.missing("k")],
          then: [Op.put("wrong", "-")],
          else: [Op.txn({ if: [Compare.value("k", "=", "v")], then: [Op.put("right", "-"), Op.get("k")] })]
        })
      ]
    })
    if (!response.succeeded) return assert.fail("k exists")
    const [inner] = response.responses
    if (inner.succeeded) return assert.fail("k is not missing")
    const [innermost] = inner.responses
    if (!innermost.succeeded) return assert.fail("the value is equal")
    assert.deepStrictEqual(textsOf(innermost.responses[1]), ["v"])
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), ["k", "right"])
  }),

  test("a transaction that puts a key twice is rejected, nested transactions included", function*(kv) {
    const put = Op.put("k", "v")
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: [put, put] }))
    yield* rejects(kv, "InvalidRequest", kv.txn({ else: [put, Op.put("k", "w")] }))
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: [put, Op.txn({ then: [put] })] }))
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: [Op.txn({ else: [put] }), put] }))
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: [Op.txn({ then: [put] }), Op.txn({ else: [put] })] }))
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: [Op.txn({ then: [Op.txn({ then: [put] })] }), put] }))
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
  }),

  test("a transaction that puts and deletes a key is rejected, nested transactions included", function*(kv) {
    yield* kv.put("k", "before")
    const put = Op.put("k", "v")
    for (const range of [KeyRange.key("k"), KeyRange.prefix("k"), KeyRange.halfOpen("a", "l")]) {
      const deletion = Op.deleteRange(range)
      yield* rejects(kv, "InvalidRequest", kv.txn({ then: [put, deletion] }))
      yield* rejects(kv, "InvalidRequest", kv.txn({ then: [deletion, put] }))
      yield* rejects(kv, "InvalidRequest", kv.txn({ then: [deletion, Op.txn({ then: [put] })] }))
      yield* rejects(kv, "InvalidRequest", kv.txn({ then: [put, Op.txn({ else: [deletion] })] }))
    }
    assert.strictEqual(yield* textOf(kv, "k"), "before")
  }),

  test("a key may be put in both branches of a transaction, because only one runs", function*(kv) {
    const put = Op.put("k", "v")
    yield* kv.txn({ then: [put], else: [put] })
    yield* kv.txn({ then: [Op.txn({ then: [put], else: [put] })] })
    yield* kv.txn({ then: [Op.txn({ then: [put], else: [Op.txn({ then: [put], else: [put] })] })] })
    yield* kv.txn({ then: [Op.txn({ then: [Op.delete("k")], else: [put] })] })
    assert.strictEqual(yield* textOf(kv, "k"), undefined)
  }),

  test("a transaction may delete a key twice; the second delete deletes nothing", function*(kv) {
    yield* putAll(kv, ["a", "b"])
    const response = yield* kv.txn({ then: [Op.delete("a"), Op.deleteRange(KeyRange.prefix(""))] })
    if (!response.succeeded) return assert.fail("it has no conditions")
    assert.deepStrictEqual(response.responses.map((inner) => inner.deleted), [1, 1])
  }),

  test("a transaction with as many operations as the limit is accepted, one more is rejected", function*(kv) {
    const { limits: { maxTxnOps: max } } = yield* Store
    const conditions = Array.from({ length: max + 1 }, (_, i) => Compare.missing(`none${i}`))
    const response = yield* kv.txn({ if: conditions.slice(1), then: putOps(max), else: putOps(max) })
    assert.strictEqual(response.responses.length, max)
    assert.strictEqual(yield* kv.count(KeyRange.all), max)
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: putOps(max + 1) }))
    yield* rejects(kv, "InvalidRequest", kv.txn({ else: putOps(max + 1) }))
    yield* rejects(kv, "InvalidRequest", kv.txn({ if: conditions }))
  }),

  test("a nested transaction may have as many operations as the outer ones leave of the limit", function*(kv) {
    const { limits: { maxTxnOps: max } } = yield* Store
    const nested = (n: number) => Op.txn({ then: putOps(n, "n") })
    yield* kv.txn({ then: [nested(max - 1)] })
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: [nested(max)] }))
    yield* kv.txn({ then: [...putOps(9), nested(max - 10)] })
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: [...putOps(9), nested(max - 9)] }))
    // The longest list of the outer transaction counts.
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: [nested(max - 9)], else: putOps(10) }))
    yield* kv.txn({ then: [Op.txn({ then: [nested(max - 2)] })] })
    yield* rejects(kv, "InvalidRequest", kv.txn({ then: [Op.txn({ then: [nested(max - 1)] })] }))
  }),

  test("a transaction that fails changes nothing", function*(kv) {
    yield* kv.put("k", "before")
    const lease = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* backendOf(kv).leaseRevoke(lease.id)
    yield* rejects(
      kv,
      "LeaseNotFound",
      kv.txn({ then: [Op.put("k", "after"), Op.delete("x"), Op.put("l", "v", { lease: lease.id })] })
    )
    const future = (yield* revisionOf(kv)) + 100n
    yield* rejects(
      kv,
      "FutureRevision",
      kv.txn({ then: [Op.put("k", "after"), Op.txn({ then: [Op.get("k", { revision: future })] })] })
    )
    assert.strictEqual(yield* textOf(kv, "k"), "before")
  }),

  test("an unknown lease or revision in the branch that does not run is not an error", function*(kv) {
    const lease = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* backendOf(kv).leaseRevoke(lease.id)
    const future = (yield* revisionOf(kv)) + 100n
    const response = yield* kv.txn({
      then: [Op.put("k", "v")],
      else: [Op.put("l", "v", { lease: lease.id }), Op.get("k", { revision: future })]
    })
    assert.isTrue(response.succeeded)
  }),

  test("no reader ever sees half of a transaction", function*(kv) {
    const other = yield* newClient
    const write = (n: number) => kv.txn({ then: [Op.put("a", `${n}`), Op.put("b", `${n}`), Op.put("c", `${n}`)] })
    yield* write(0)
    const writer = yield* Effect.forkChild(Effect.forEach(Array.from({ length: 100 }, (_, i) => i), write))
    let last = -1
    while (last < 99) {
      const texts = textsOf(yield* other.range(KeyRange.all))
      assert.deepStrictEqual(texts, [texts[0]!, texts[0]!, texts[0]!])
      assert.isAtLeast(Number(texts[0]), last)
      last = Number(texts[0])
      yield* Effect.yieldNow
    }
    yield* Fiber.join(writer)
  }),

  test("of many concurrent transactions on one condition exactly one succeeds", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const wins = yield* Effect.forEach(
      Array.from({ length: 60 }, (_, i) => i),
      (i) =>
        clients[i % 3]!.txn({ if: [Compare.missing("k")], then: [Op.put("k", `${i}`)], else: [Op.get("k")] }).pipe(
          Effect.map((response) => response.succeeded ? [String(i)] : textsOf(response.responses[0]))
        ),
      { concurrency: "unbounded" }
    )
    const winner = yield* textOf(kv, "k")
    assert.isTrue(wins.every((texts) => texts[0] === winner))
    assert.strictEqual((yield* kv.getEntry("k")).pipe(Option.getOrThrow).version, 1)
  })
])
