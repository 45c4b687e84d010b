/**
 * Views: a range in memory that is always a state the store had, and never half of a revision.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as RangeView from "@effect-kv/core/RangeView"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { chapter, newClient, promptly, reasonOf, test } from "./Case.ts"
import { keysOf, putAll, textsOf } from "./entries.ts"
import { viewBecomes, zip } from "./watching.ts"

export const cases = chapter("watch streams", [
  test("a view always has the current entries", function*(kv) {
    yield* putAll(kv, ["v/a", "v/b", "w"], () => "1")
    const view = yield* Effect.provideService(RangeView.make(KeyRange.prefix("v/")), Kv.Kv, kv)
    assert.deepStrictEqual([...(yield* view.snapshot).entries.keys()].toSorted(), ["v/a", "v/b"])
    assert.deepStrictEqual(Option.map(yield* view.get("v/a"), (entry) => entry.lossyText), Option.some("1"))
    assert.deepStrictEqual(yield* view.get("w"), Option.none())
    yield* kv.txn({ then: [Op.put("v/a", "2"), Op.delete("v/b"), Op.put("v/c", "2")] })
    yield* viewBecomes(view, { "v/a": "2", "v/c": "2" })
    assert.deepStrictEqual(yield* view.get("v/b"), Option.none())
  }),

  test("a view never shows half of a revision", function*(kv) {
    const write = (n: number) => kv.txn({ then: ["v/a", "v/b", "v/c"].map((key) => Op.put(key, `${n}`)) })
    yield* write(0)
    const view = yield* Effect.provideService(RangeView.make(KeyRange.prefix("v/")), Kv.Kv, kv)
    const writing = yield* Effect.forkChild(Effect.forEach(Array.from({ length: 100 }, (_, i) => i + 1), write))
    const seen = yield* promptly(
      "the last of 100",
      view.changes.pipe(
        Stream.map((snapshot) => [...snapshot.entries.values()].map((entry) => entry.lossyText)),
        Stream.takeUntil((texts) => texts[0] === "100"),
        Stream.runCollect
      )
    )
    yield* Fiber.join(writing)
    for (const texts of seen) assert.deepStrictEqual(texts, [texts[0]!, texts[0]!, texts[0]!])
  }),

  test("after all changes a view equals a fresh read", function*(kv) {
    const other = yield* newClient
    const view = yield* Effect.provideService(RangeView.make(KeyRange.prefix("v/")), Kv.Kv, kv)
    yield* Effect.forEach(
      Array.from({ length: 200 }, (_, i) => i),
      (i): Effect.Effect<unknown, KvError> =>
        i % 3 === 2 ? other.delete(`v/${i % 7}`) : other.put(`v/${i % 11}`, `${i}`),
      { concurrency: 10 }
    )
    const now = yield* other.range(KeyRange.prefix("v/"))
    yield* viewBecomes(view, Object.fromEntries(zip(keysOf(now), textsOf(now))))
    const snapshot = yield* view.snapshot
    for (const entry of now.entries) {
      assert.strictEqual(snapshot.entries.get(entry.key)?.modRevision, entry.modRevision)
    }
  }),

  test("a snapshot of a view is encoded as JSON without values", function*(kv) {
    const { revision } = yield* kv.put("json/a", "s3cr3t-value")
    const view = yield* Effect.provideService(RangeView.make(KeyRange.prefix("json/")), Kv.Kv, kv)
    const snapshot = yield* view.snapshot
    const text = JSON.stringify(snapshot)
    assert.notInclude(text, "s3cr3t-value")
    const entries = JSON.parse(JSON.stringify([...snapshot.entries.values()]))
    assert.deepStrictEqual(JSON.parse(text), { revision: `${revision}`, entries })
  }),

  test("changesAfter emits the changes since a snapshot, and not the snapshot itself", function*(kv) {
    yield* kv.put("v/a", "1")
    const view = yield* Effect.provideService(RangeView.make(KeyRange.prefix("v/")), Kv.Kv, kv)
    const first = yield* view.snapshot
    yield* kv.put("v/a", "2")
    yield* promptly("the change", view.waitUntil(({ entries }) => entries.get("v/a")?.lossyText === "2"))
    // The change happened after the snapshot and before the stream started.
    const next = yield* promptly("the change", Stream.runHead(view.changesAfter(first.revision)))
    const second = Option.getOrThrow(next)
    assert.strictEqual(second.entries.get("v/a")?.lossyText, "2")
    const waiting = yield* Effect.forkChild(Stream.runHead(view.changesAfter(second.revision)))
    yield* kv.put("v/a", "3")
    const third = Option.getOrThrow(yield* promptly("the next change", Fiber.join(waiting)))
    assert.strictEqual(third.entries.get("v/a")?.lossyText, "3")
  }),

  test("waitUntil returns the first snapshot that satisfies the predicate, at once if one does", function*(kv) {
    const view = yield* Effect.provideService(RangeView.make(KeyRange.prefix("v/")), Kv.Kv, kv)
    assert.strictEqual((yield* promptly("now", view.waitUntil(({ entries }) => entries.size === 0))).entries.size, 0)
    const waiting = yield* Effect.forkChild(view.waitUntil(({ entries }) => entries.size === 2))
    yield* putAll(kv, ["v/a", "v/b", "w"])
    const snapshot = yield* promptly("two keys", Fiber.join(waiting))
    assert.deepStrictEqual([...snapshot.entries.keys()].toSorted(), ["v/a", "v/b"])
  }),

  test("a view whose scope has closed fails with Closed, also for pending waits", function*(kv) {
    yield* kv.put("v/a", "1")
    const scope = yield* Scope.make()
    const view = yield* Scope.provide(Effect.provideService(RangeView.make(KeyRange.prefix("v/")), Kv.Kv, kv), scope)
    const waiting = yield* Effect.forkChild(reasonOf(view.waitUntil(() => false)), { startImmediately: true })
    const following = yield* Effect.forkChild(reasonOf(Stream.runDrain(view.changes)), { startImmediately: true })
    yield* Scope.close(scope, Exit.void)
    for (const fiber of [waiting, following]) {
      assert.strictEqual((yield* promptly("the end", Fiber.join(fiber)))._tag, "Closed")
    }
    assert.strictEqual((yield* reasonOf(view.get("v/a")))._tag, "Closed")
    assert.strictEqual((yield* reasonOf(view.snapshot))._tag, "Closed")
    for (const stream of [view.changes, view.changesAfter(0n)]) {
      assert.strictEqual((yield* promptly("the end", reasonOf(Stream.runDrain(stream))))._tag, "Closed")
    }
  })
])
