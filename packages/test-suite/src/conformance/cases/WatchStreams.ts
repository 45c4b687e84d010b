/**
 * Streams of watches, waits for a change, callbacks, snapshots with later changes, and views.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Errors from "@effect-kv/core/KvError"
import { backendOf, watcherOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import * as RangeView from "@effect-kv/core/RangeView"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as KvFaults from "../../testing/KvFaults.ts"
import { chapter, newClient, promptly, reasonOf, rejects, Store, test } from "./Case.ts"
import { keysOf, putAll, textsOf } from "./entries.ts"
import { soon } from "./locking.ts"
import { capturing } from "./logging.ts"
import { batchesUpTo, words } from "./watchers.ts"

/** The first `n` events of a stream, as text. */
const firstWords = (n: number, events: Kv.Subscription["events"]) =>
  promptly(`${n} events`, Effect.map(Stream.runCollect(Stream.take(events, n)), (taken) => taken.map(words)))

/** Waits until a view has the expected entries. */
const viewBecomes = (view: RangeView.RangeView, expected: Record<string, string>): Effect.Effect<void, KvError> =>
  promptly(
    `a view of ${JSON.stringify(expected)}`,
    view.changes.pipe(
      Stream.map((snapshot) => Object.fromEntries([...snapshot.entries].map(([key, entry]) => [key, entry.lossyText]))),
      Stream.takeUntil((seen) => JSON.stringify(sorted(seen)) === JSON.stringify(sorted(expected))),
      Stream.runDrain
    )
  )

const sorted = (record: Record<string, string>) => Object.entries(record).toSorted(([a], [b]) => a < b ? -1 : 1)

export const cases = chapter("watch streams", [
  test("subscribe returns once the store has confirmed the watch: no later event is missed", function*(kv) {
    for (let i = 0; i < 10; i++) {
      const subscription = yield* kv.subscribe(KeyRange.prefix(`${i}/`))
      yield* kv.put(`${i}/a`, "1")
      yield* kv.delete(`${i}/a`)
      assert.deepStrictEqual(yield* firstWords(2, subscription.events), [`put ${i}/a=1 new`, `delete ${i}/a`])
    }
  }),

  test("watch is a stream of events that continues after a delete", function*(kv) {
    const { revision } = yield* kv.put("k", "1")
    yield* kv.delete("k")
    yield* kv.put("k", "2")
    yield* kv.put("k", "3")
    const events = kv.watch(KeyRange.key("k"), { startRevision: revision })
    assert.deepStrictEqual(yield* firstWords(4, events), ["put k=1 new", "delete k", "put k=2 new", "put k=3"])
  }),

  test("a stream without a start revision sees the events after it has started", function*(kv) {
    const fiber = yield* Effect.forkChild(firstWords(1, kv.watch(KeyRange.all)))
    const writing = yield* Effect.forkChild(Effect.forever(Effect.andThen(kv.put("k", "v"), Effect.yieldNow)))
    const [seen] = yield* promptly("an event", Fiber.join(fiber))
    yield* Fiber.interrupt(writing)
    assert.include(["put k=v new", "put k=v"], seen)
  }),

  test("chunks of a watch stream never split a revision", function*(kv) {
    const { revision } = yield* kv.put("k", "1")
    for (let i = 0; i < 5; i++) yield* kv.txn({ then: ["a", "b", "c"].map((key) => Op.put(key, `${i}`)) })
    const chunks = yield* promptly(
      "the events",
      kv.watch(KeyRange.from("a"), { startRevision: revision + 1n }).pipe(
        Stream.chunks,
        Stream.mapAccum(() => 0, (n, chunk) => [n + chunk.length, [{ chunk, n: n + chunk.length }]] as const),
        Stream.takeUntil(({ n }) => n >= 15),
        Stream.map(({ chunk }) => chunk),
        Stream.runCollect
      )
    )
    for (const chunk of chunks) {
      const revisions = new Set(chunk.map((event) => event.revision))
      assert.strictEqual(chunk.length, revisions.size * 3)
    }
  }),

  test("each element of watchBatches is one revision", function*(kv) {
    const { revision } = yield* kv.put("x", "1")
    yield* kv.txn({ then: [Op.put("a", "1"), Op.put("b", "1")] })
    yield* kv.deleteRange(KeyRange.prefix("x"))
    const options = { startRevision: revision }
    const taken = yield* promptly(
      "three revisions",
      Stream.runCollect(Stream.take(kv.watchRevisions(KeyRange.all, options), 3))
    )
    assert.deepStrictEqual(
      taken.map((batch) => [batch.revision, batch.events.map(words)]),
      [
        [revision, ["put x=1 new"]],
        [revision + 1n, ["put a=1 new", "put b=1 new"]],
        [revision + 2n, ["delete x"]]
      ]
    )
    const subscription = yield* kv.subscribe(KeyRange.all, options)
    const again = yield* promptly("the first revision", Stream.runHead(subscription.revisions))
    assert.strictEqual(Option.getOrThrow(again).revision, revision)
  }),

  test("a stream with untilDelete ends after the revision of the first delete", function*(kv) {
    const { revision } = yield* kv.put("a", "1")
    yield* kv.put("b", "1")
    yield* kv.txn({ then: [Op.put("c", "1"), Op.delete("a"), Op.put("d", "1")] })
    yield* kv.put("e", "1")
    const all = (only?: "Put" | "Delete") =>
      promptly(
        "the end",
        Stream.runCollect(kv.watch(KeyRange.all, { startRevision: revision, untilDelete: true, only }))
      ).pipe(Effect.map((events) => events.map(words)))
    assert.deepStrictEqual(yield* all(), ["put a=1 new", "put b=1 new", "put c=1 new", "delete a", "put d=1 new"])
    assert.deepStrictEqual(yield* all("Put"), ["put a=1 new", "put b=1 new", "put c=1 new", "put d=1 new"])
    assert.deepStrictEqual(yield* all("Delete"), ["delete a"])
  }),

  test("a watch stream whose start is compacted fails with Compacted", function*(kv) {
    const store = yield* Store
    const { revision: old } = yield* kv.put("k", "1")
    const { revision: now } = yield* kv.put("k", "2")
    yield* store.compact(now)
    const reason = yield* promptly(
      "Compacted",
      reasonOf(Stream.runDrain(kv.watch(KeyRange.all, { startRevision: old })))
    )
    assert.isTrue(reason._tag === "Compacted" && Option.contains(reason.compactRevision, now))
  }),

  test("a watch stream of an invalid range is rejected", function*(kv) {
    yield* rejects(kv, "InvalidRequest", Stream.runDrain(kv.watch(KeyRange.key(""))))
    yield* rejects(kv, "InvalidRequest", Effect.scoped(kv.subscribe(KeyRange.halfOpen("b", "a"))))
    yield* rejects(kv, "InvalidRequest", kv.waitForChange("\ud800"))
    yield* rejects(kv, "InvalidRequest", Effect.scoped(kv.snapshotAndWatch(KeyRange.prefix("\ud800"))))
    yield* rejects(
      kv,
      "InvalidRequest",
      Effect.scoped(Effect.provideService(RangeView.make(KeyRange.halfOpen("b", "a")), Kv.Kv, kv))
    )
  }),

  test("waitForChange returns the next change of the key", function*(kv) {
    const { revision } = yield* kv.put("k", "1")
    yield* kv.put("other", "-")
    const change = (options?: Kv.WatchOptions) => promptly("a change", kv.waitForChange("k", options))
    const fiber = yield* Effect.forkChild(change({ startRevision: revision + 1n }))
    yield* kv.put("other", "-")
    yield* kv.put("k", "2")
    yield* kv.delete("k")
    assert.strictEqual(words(yield* Fiber.join(fiber)), "put k=2")
    const options = { startRevision: revision, previous: true, only: "Delete" } as const
    assert.strictEqual(words(yield* change(options)), "delete k was 2")
  }),

  test("watchWith calls the callback with each event until it returns false", function*(kv) {
    const seen: Array<string> = []
    const fiber = yield* kv.watchWith(KeyRange.prefix("k"), (event) =>
      Effect.sync(() => {
        seen.push(words(event))
        return seen.length < 3
      }))
    for (let i = 0; i < 5; i++) yield* kv.put("k", `${i}`)
    yield* promptly("the end", Fiber.join(fiber))
    assert.deepStrictEqual(seen, ["put k=0 new", "put k=1", "put k=2"])
  }),

  test("watchWith continues after a delete, as every watch does, unless untilDelete is true", function*(kv) {
    const log = (seen: Array<string>) => (event: Parameters<typeof words>[0]) =>
      Effect.sync(() => void seen.push(words(event)))
    const ending: Array<string> = []
    const first = yield* kv.watchWith(KeyRange.key("k"), log(ending), { untilDelete: true })
    const goingOn: Array<string> = []
    const deletesOnly: Array<string> = []
    const second = yield* kv.watchWith(
      KeyRange.key("k"),
      (event) => Effect.map(log(goingOn)(event), () => goingOn.length < 3)
    )
    const third = yield* kv.watchWith(KeyRange.key("k"), log(deletesOnly), { only: "Delete", untilDelete: true })
    yield* kv.put("k", "1")
    yield* kv.delete("k")
    yield* kv.put("k", "2")
    yield* kv.put("k", "3")
    yield* promptly("the ends", Effect.all([Fiber.join(first), Fiber.join(second), Fiber.join(third)]))
    assert.deepStrictEqual(ending, ["put k=1 new", "delete k"])
    assert.deepStrictEqual(goingOn, ["put k=1 new", "delete k", "put k=2 new"])
    assert.deepStrictEqual(deletesOnly, ["delete k"])
  }),

  test("watchWith ends when its scope closes or its callback fails", function*(kv) {
    const scope = yield* Scope.make()
    const fiber = yield* Scope.provide(kv.watchWith(KeyRange.key("k"), () => Effect.void), scope)
    yield* promptly("the end of the scope", Scope.close(scope, Exit.void))
    assert.isTrue(Exit.isFailure(yield* promptly("the end of the watch", Fiber.await(fiber))))
    const failing = yield* kv.watchWith(KeyRange.key("k"), () => Effect.fail("no more" as const))
    yield* kv.put("k", "v")
    const exit = yield* promptly("the failure", Effect.exit(Fiber.join(failing)))
    assert.deepStrictEqual(exit, Exit.fail("no more"))
  }),

  test("snapshotAndWatch returns the entries and a stream of every later change, without a gap", function*(kv) {
    const other = yield* newClient
    const state = new Map<string, string>()
    const writing = yield* Effect.forkChild(
      Effect.forEach(Array.from({ length: 200 }, (_, i) => i), (i) => {
        const write: Effect.Effect<unknown, KvError> = i % 5 === 4
          ? other.delete(`k/${(i * 3) % 8}`)
          : other.put(`k/${i % 8}`, `${i}`)
        return Effect.andThen(write, Effect.yieldNow)
      })
    )
    yield* Effect.repeat(Effect.andThen(kv.count(KeyRange.prefix("k/")), Effect.yieldNow), { times: 10 })
    const subscription = yield* kv.snapshotAndWatch(KeyRange.prefix("k/"))
    for (const entry of subscription.entries) state.set(entry.key, entry.lossyText)
    yield* Fiber.join(writing)
    const { revision } = yield* other.put("k/end", "v")
    for (const batch of yield* batchesUpTo(watcherOf(subscription), revision)) {
      assert.isTrue(batch.revision > subscription.revision)
      for (const event of batch.events) {
        if (event._tag === "Put") state.set(event.key, event.entry.lossyText)
        else assert.isTrue(state.delete(event.key), "a deleted key was in the view")
      }
    }
    const now = yield* kv.range(KeyRange.prefix("k/"))
    assert.deepStrictEqual([...state].toSorted(([a], [b]) => a < b ? -1 : 1), zip(keysOf(now), textsOf(now)))
  }),

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
  }),

  test("a subscription can run once: a second run, of either form, fails with InvalidRequest", function*(kv) {
    for (const [first, second] of [["events", "events"], ["events", "revisions"], ["revisions", "events"]] as const) {
      const { revision } = yield* kv.txn({ then: ["a", "b", "c"].map((key) => Op.put(key, "1")) })
      const subscription = yield* kv.subscribe(KeyRange.all, { startRevision: revision })
      assert.isTrue(
        Option.isSome(yield* promptly("an event", Stream.runHead<unknown, KvError, never>(subscription[first])))
      )
      const reason = yield* reasonOf(Stream.runDrain<unknown, KvError, never>(subscription[second]))
      assert.strictEqual(reason._tag, "InvalidRequest")
      assert.include(reason.message, "subscribe again")
    }
  }),

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
  }),

  test("a failed watch is logged once with its range and reason; a closed watch is not logged", function*(kv) {
    const { layer, logged } = capturing()
    yield* Effect.gen(function*() {
      const faults = yield* KvFaults.make(backendOf(kv))
      const failure = new Errors.PermissionDenied({ message: "a test fault" })
      const subscription = yield* faults.kv.subscribe(KeyRange.key("s"))
      const view = yield* Effect.provideService(RangeView.make(KeyRange.prefix("l/")), Kv.Kv, faults.kv)
      const watching = yield* faults.kv.watchWith(KeyRange.prefix("w/"), () => Effect.void)
      yield* Effect.scoped(Effect.provideService(RangeView.make(KeyRange.prefix("closed/")), Kv.Kv, faults.kv))
      assert.strictEqual(yield* faults.cutWatches({ failure }), 3)
      yield* reasonOf(Stream.runDrain(subscription.events))
      yield* reasonOf(watcherOf(subscription).take)
      yield* promptly("the end of the view", reasonOf(Stream.runDrain(view.changes)))
      yield* promptly("the end of the callback", reasonOf(Fiber.join(watching)))
      yield* faults.inject(KvFaults.unavailable, { when: (call) => call.kind === "watch" })
      yield* reasonOf(Stream.runDrain(faults.kv.watch(KeyRange.key("opening"))))
      yield* Effect.scoped(faults.kv.subscribe(KeyRange.key("closed")))
    }).pipe(Effect.scoped, Effect.provide(layer))
    const failed = (range: string, reason: string) => ({ level: "Warn", annotations: { range, reason } })
    assert.deepStrictEqual(
      logged.map(({ annotations, level }) => ({ level, annotations }))
        .toSorted((a, b) => `${a.annotations["range"]}` < `${b.annotations["range"]}` ? -1 : 1),
      [
        failed("l/*", "PermissionDenied"),
        failed("opening", "Unavailable"),
        failed("s", "PermissionDenied"),
        failed("w/*", "PermissionDenied")
      ]
    )
  }),

  test("watch streams and views work in a namespace", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    yield* app.put("k", "0")
    const subscription = yield* app.subscribe(KeyRange.key("k"))
    const snapshot = yield* app.snapshotAndWatch(KeyRange.all, { previous: true })
    const view = yield* Effect.provideService(RangeView.make(KeyRange.all), Kv.Kv, app)
    yield* kv.put("k", "outside")
    yield* kv.put("app/k", "1")
    assert.deepStrictEqual(snapshot.entries.map((entry) => [entry.key, entry.lossyText]), [["k", "0"]])
    assert.deepStrictEqual(yield* firstWords(1, subscription.events), ["put k=1"])
    assert.deepStrictEqual(yield* firstWords(1, snapshot.events), ["put k=1 was 0"])
    yield* viewBecomes(view, { k: "1" })
  }),

  test("the watch functions of the Kv module call the store", function*(kv) {
    const program = Effect.gen(function*() {
      const { revision } = yield* Kv.put("k", "1")
      const seen = yield* firstWords(1, (yield* Kv.subscribe(KeyRange.key("k"), { startRevision: revision })).events)
      const watched = yield* Stream.runHead(Kv.watch(KeyRange.key("k"), { startRevision: revision }))
      return [...seen, ...Option.toArray(watched).map(words)]
    })
    const seen = yield* promptly("the events", Effect.provideService(program, Kv.Kv, kv))
    assert.deepStrictEqual(seen, ["put k=1 new", "put k=1 new"])
  })
])

const zip = (keys: ReadonlyArray<string>, texts: ReadonlyArray<string>): ReadonlyArray<[string, string]> =>
  keys.map((key, i) => [key, texts[i]!])
