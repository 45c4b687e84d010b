/**
 * Watches that resume: after a failure they continue with the revision after the last one delivered.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Errors from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as KvFaults from "../../testing/KvFaults.ts"
import { chapter, promptly, reasonOf, Store, test } from "./Case.ts"
import { soon } from "./locking.ts"
import { words } from "./watchers.ts"
import { firstWords } from "./watching.ts"

export const cases = chapter("watch streams", [
  test("a watch with resume loses and repeats no event, in each run of its stream", function*(kv) {
    const faults = yield* KvFaults.make(backendOf(kv))
    const failures = [
      new Errors.PermissionDenied({ message: "a test fault" }),
      new Errors.Unauthenticated({ message: "a test fault" }),
      new Errors.Unavailable({ message: "a test fault" })
    ]
    const { revision } = yield* kv.put("k/0", "v")
    const events = faults.kv.watch(KeyRange.prefix("k/"), { startRevision: revision, resume: Schedule.recurs(50) })
    const seen: ReadonlyArray<Array<string>> = [[], []]
    const readers = yield* Effect.forEach(seen, (keys) =>
      Effect.forkChild(Stream.runForEach(
        Stream.takeUntil(events, (event) => event.key === "k/30"),
        (event) => Effect.sync(() => keys.push(event.key))
      )))
    const caughtUp = (n: number) => soon("both have seen it", Effect.sync(() => seen.every((keys) => keys.length > n)))
    yield* caughtUp(0)
    for (let i = 1; i <= 30; i++) {
      if (i % 4 === 1) yield* faults.inject(KvFaults.unavailable, { when: (call) => call.kind === "watch", times: 2 })
      if (i % 4 === 2) yield* kv.put(`elsewhere`, "v")
      if (i % 2 === 1) yield* faults.cutWatches({ failure: failures[i % 3]! })
      yield* kv.put(`k/${i}`, "v")
      if (i % 5 === 0) yield* caughtUp(i)
    }
    yield* promptly("the end", Effect.forEach(readers, Fiber.join))
    const expected = Array.from({ length: 31 }, (_, i) => `k/${i}`)
    assert.deepStrictEqual(seen, [expected, expected])
    assert.isAtLeast((yield* faults.injected).length, 20)
  }),

  test("every form of a watch can resume", function*(kv) {
    const faults = yield* KvFaults.make(backendOf(kv))
    const failure = new Errors.PermissionDenied({ message: "a test fault" })
    const resume = Schedule.recurs(1)
    const subscription = yield* faults.kv.subscribe(KeyRange.key("k"), { resume })
    const snapshot = yield* faults.kv.snapshotAndWatch(KeyRange.key("k"), { resume })
    const called: Array<string> = []
    yield* faults.kv.watchWith(KeyRange.key("k"), (event) => Effect.sync(() => void called.push(words(event))), {
      resume
    })
    assert.strictEqual(yield* faults.cutWatches({ failure }), 3)
    yield* kv.put("k", "1")
    assert.deepStrictEqual(yield* firstWords(1, subscription.events), ["put k=1 new"])
    assert.deepStrictEqual(yield* firstWords(1, snapshot.events), ["put k=1 new"])
    yield* soon("the callback is called", Effect.sync(() => called.length === 1))
    const statuses: Array<string> = []
    yield* Effect.forkScoped(
      Stream.runForEach(snapshot.status, (now) => Effect.sync(() => void statuses.push(now._tag)))
    )
    yield* soon("it is live", Effect.sync(() => statuses.at(-1) === "Live"))
  }),

  test("a watch with resume fails with Compacted if its next revision is compacted", function*(kv) {
    const store = yield* Store
    const faults = yield* KvFaults.make(backendOf(kv))
    const subscription = yield* faults.kv.subscribe(KeyRange.key("k"), { resume: Schedule.recurs(3) })
    const held = yield* faults.hold("request", { when: (call) => call.kind === "watch" })
    yield* faults.cutWatches({ failure: new Errors.Unavailable({ message: "a test fault" }) })
    const failing = yield* Effect.forkChild(reasonOf(Stream.runDrain(subscription.events)))
    yield* held.reached
    yield* kv.put("k", "1")
    const { revision } = yield* kv.put("k", "2")
    yield* store.compact(revision)
    yield* held.letGo
    const reason = yield* promptly("Compacted", Fiber.join(failing))
    assert.isTrue(reason._tag === "Compacted" && Option.contains(reason.compactRevision, revision))
    const next = kv.watch(KeyRange.key("k"), { startRevision: revision + 1n })
    yield* kv.put("k", "3")
    assert.deepStrictEqual(yield* firstWords(1, next), ["put k=3"])
  }),

  test("a watch with resume fails with the last failure when its schedule ends", function*(kv) {
    const faults = yield* KvFaults.make(backendOf(kv))
    const opened = yield* faults.inject(KvFaults.unavailable, {
      when: (call) => call.kind === "watch",
      times: Infinity
    })
    const reason = yield* reasonOf(Stream.runDrain(faults.kv.watch(KeyRange.key("k"), { resume: Schedule.recurs(4) })))
    assert.strictEqual(reason._tag, "Unavailable")
    assert.strictEqual(yield* opened.count, 5)
    const bad = yield* reasonOf(Stream.runDrain(kv.watch(KeyRange.key(""), { resume: Schedule.recurs(4) })))
    assert.strictEqual(bad._tag, "InvalidRequest")
  })
])
