/**
 * Streams of watches, waits for a change, callbacks, and snapshots with the changes that follow.
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
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as KvFaults from "../../testing/KvFaults.ts"
import { chapter, newClient, promptly, reasonOf, rejects, Store, test } from "./Case.ts"
import { keysOf, textsOf } from "./entries.ts"
import { capturing } from "./logging.ts"
import { batchesUpTo, words } from "./watchers.ts"
import { firstWords, viewBecomes, zip } from "./watching.ts"

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
    const put = Effect.uninterruptible(kv.put("k", "v"))
    const writing = yield* Effect.forkChild(Effect.forever(Effect.andThen(put, Effect.yieldNow)))
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
