/**
 * Watches and history: start revisions in the past and the future, previous entries, and compaction.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { chapter, promptly, reasonOf, rejects, Store, test } from "./Case.ts"
import { putAll } from "./entries.ts"
import { eventsUpTo, watch, wordsUpTo } from "./watchers.ts"

const numbered = (n: number): ReadonlyArray<string> => Array.from({ length: n }, (_, i) => `k/${i}`)

export const cases = chapter("watches and history", [
  test("a watch from a past revision replays the events since then", function*(kv) {
    yield* kv.put("a", "1")
    const { revision: start } = yield* kv.put("a", "2")
    yield* kv.txn({ then: [Op.put("b", "1"), Op.put("c", "1")] })
    yield* kv.delete("a")
    yield* kv.put("a", "3")
    const watcher = yield* watch(kv, KeyRange.all, { startRevision: start })
    assert.strictEqual(watcher.revision, start - 1n)
    const { revision } = yield* kv.put("a", "4")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), [
      "put a=2",
      "put b=1 new",
      "put c=1 new",
      "delete a",
      "put a=3 new",
      "put a=4"
    ])
  }),

  test("a watch from the first revision replays the whole history", function*(kv) {
    const first = (yield* kv.put("k", "0")).revision
    for (let i = 1; i < 50; i++) yield* kv.put("k", `${i}`)
    const watcher = yield* watch(kv, KeyRange.key("k"), { startRevision: first })
    const events = yield* eventsUpTo(watcher, first + 49n)
    assert.deepStrictEqual(
      events.map((event) => event._tag === "Put" ? [event.revision, event.entry.lossyText] : []),
      Array.from({ length: 50 }, (_, i) => [first + BigInt(i), `${i}`])
    )
  }),

  test("a replay can be larger than the message limit", function*(kv) {
    const first = (yield* kv.put("k", "begin")).revision
    const value = "x".repeat(1_000_000)
    let last = first
    for (let i = 0; i < 8; i++) last = (yield* kv.put("k", `${i}${value}`)).revision
    const watcher = yield* watch(kv, KeyRange.all, { startRevision: first })
    const events = yield* eventsUpTo(watcher, last)
    assert.deepStrictEqual(
      events.map((event) => event._tag === "Put" ? [event.entry.lossyText.slice(0, 1), event.entry.size] : []),
      [["b", 5], ...Array.from({ length: 8 }, (_, i) => [`${i}`, 1_000_001])]
    )
  }),

  test("a replay of one key has only the events of that key", function*(kv) {
    const first = (yield* kv.put("k", "1")).revision
    yield* putAll(kv, numbered(300))
    const { revision } = yield* kv.put("k", "2")
    const watcher = yield* watch(kv, KeyRange.key("k"), { startRevision: first })
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), ["put k=1 new", "put k=2"])
  }),

  test("a watch from a future revision delivers no earlier event", function*(kv) {
    const { revision } = yield* kv.put("k", "1")
    const watcher = yield* watch(kv, KeyRange.all, { startRevision: revision + 3n })
    assert.strictEqual(watcher.revision, revision + 2n)
    for (const value of ["2", "3", "4", "5"]) yield* kv.put("k", value)
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision + 4n), ["put k=4", "put k=5"])
  }),

  test("a watch from the next revision delivers the next event", function*(kv) {
    const { revision } = yield* kv.put("k", "1")
    const watcher = yield* watch(kv, KeyRange.all, { startRevision: revision + 1n })
    yield* kv.put("k", "2")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision + 1n), ["put k=2"])
  }),

  test("an event has the previous entry on request, if it is not compacted", function*(kv) {
    const { revision: start } = yield* kv.put("k", "1")
    const live = yield* watch(kv, KeyRange.all, { previous: true })
    const without = yield* watch(kv, KeyRange.all)
    yield* kv.put("k", "2")
    yield* kv.delete("k")
    const { revision } = yield* kv.put("k", "3")
    const later = ["put k=2 was 1", "delete k was 2", "put k=3 new"]
    assert.deepStrictEqual(yield* wordsUpTo(live, revision), later)
    assert.deepStrictEqual(yield* wordsUpTo(without, revision), ["put k=2", "delete k", "put k=3 new"])
    const replay = yield* watch(kv, KeyRange.all, { previous: true, startRevision: start })
    assert.deepStrictEqual(yield* wordsUpTo(replay, revision), ["put k=1 new", ...later])
  }),

  test("the previous entry is the one before the revision, even if the revision wrote the key twice", function*(kv) {
    yield* kv.put("k", "1")
    const watcher = yield* watch(kv, KeyRange.all, { previous: true })
    // A put and a later delete of one key are accepted in two sibling nested transactions.
    const { revision } = yield* kv.txn({
      then: [Op.txn({ then: [Op.put("k", "2"), Op.put("l", "1")] }), Op.txn({ then: [Op.deleteRange(KeyRange.all)] })]
    })
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), [
      "put k=2 was 1",
      "put l=1 new",
      "delete k was 1",
      "delete l"
    ])
  }),

  test("a watch whose start is compacted fails with Compacted and the revision to restart from", function*(kv) {
    const store = yield* Store
    const { revision: old } = yield* kv.put("k", "1")
    const { revision: compacted } = yield* kv.put("k", "2")
    const { revision: last } = yield* kv.put("k", "3")
    yield* store.compact(compacted)
    for (const startRevision of [old, compacted]) {
      const reason = yield* promptly(
        "Compacted",
        reasonOf(Effect.scoped(
          Effect.flatMap(backendOf(kv).watch({ range: KeyRange.all, startRevision }), (watcher) => watcher.take)
        ))
      )
      if (reason._tag !== "Compacted") return assert.fail(reason.message)
      assert.deepStrictEqual(reason.compactRevision, Option.some(compacted))
    }
    const watcher = yield* watch(kv, KeyRange.all, { startRevision: compacted + 1n })
    assert.deepStrictEqual(yield* wordsUpTo(watcher, last), ["put k=3"])
  }),

  test("a watch that fails with Compacted or is rejected does not affect other watches", function*(kv) {
    const store = yield* Store
    const watcher = yield* watch(kv, KeyRange.all)
    const { revision: old } = yield* kv.put("k", "1")
    const { revision: now } = yield* kv.put("k", "2")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, now), ["put k=1 new", "put k=2"])
    yield* store.compact(now)
    for (let i = 0; i < 5; i++) {
      yield* promptly(
        "Compacted",
        reasonOf(Effect.scoped(
          Effect.flatMap(backendOf(kv).watch({ range: KeyRange.key("k"), startRevision: old }), (other) => other.take)
        ))
      )
      yield* rejects(kv, "InvalidRequest", Effect.scoped(backendOf(kv).watch({ range: KeyRange.key("") })))
    }
    const after = yield* watch(kv, KeyRange.all)
    const { revision } = yield* kv.put("k", "3")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), ["put k=3"])
    assert.deepStrictEqual(yield* wordsUpTo(after, revision), ["put k=3"])
  }),

  test("a watch whose key exceeds the request limit is rejected and affects no other watch", function*(kv) {
    const { limits: { maxRequestBytes: max } } = yield* Store
    const watcher = yield* watch(kv, KeyRange.all)
    const large = KeyRange.key("k".repeat(2 * max))
    const [, other] = yield* Effect.all([
      rejects(kv, "RequestTooLarge", Effect.scoped(backendOf(kv).watch({ range: large }))),
      watch(kv, KeyRange.all)
    ], { concurrency: 2 })
    const { revision } = yield* kv.put("k", "1")
    for (const each of [watcher, other]) assert.deepStrictEqual(yield* wordsUpTo(each, revision), ["put k=1 new"])
  }),

  test("an open watch continues after a compaction", function*(kv) {
    const store = yield* Store
    const watcher = yield* watch(kv, KeyRange.all)
    yield* kv.put("k", "1")
    const { revision } = yield* kv.put("k", "2")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), ["put k=1 new", "put k=2"])
    yield* store.compact(revision)
    const { revision: last } = yield* kv.put("k", "3")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, last), ["put k=3"])
  }),

  test("a watch with a start revision that is not a positive 64-bit integer is rejected", function*(kv) {
    for (const startRevision of [0n, -1n, 2n ** 63n]) {
      yield* rejects(kv, "InvalidRequest", Effect.scoped(backendOf(kv).watch({ range: KeyRange.all, startRevision })))
    }
  })
])
