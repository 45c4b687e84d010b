/**
 * Watches: every change of a range is delivered once and in order, the events of a revision together.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { chapter, newClient, promptly, reasonOf, revisionOf, Store, test, waitingTest } from "./Case.ts"
import { putAll } from "./entries.ts"
import { batchesUpTo, eventsUpTo, watch, words, wordsUpTo } from "./watchers.ts"

const numbered = (n: number): ReadonlyArray<string> => Array.from({ length: n }, (_, i) => `k/${i}`)

export const cases = chapter("watches", [
  test("a confirmed watch delivers everything after its revision, in order", function*(kv) {
    yield* kv.put("a", "before")
    const before = yield* revisionOf(kv)
    const watcher = yield* watch(kv, KeyRange.all)
    assert.strictEqual(watcher.revision, before)
    yield* kv.put("a", "1")
    yield* kv.put("b", "2")
    yield* kv.delete("a")
    const { revision } = yield* kv.put("a", "3")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), ["put a=1", "put b=2 new", "delete a", "put a=3 new"])
  }),

  test("a put event has the entry with its revisions, version and lease", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    const watcher = yield* watch(kv, KeyRange.key("k"))
    const first = yield* kv.put("k", "1")
    const second = yield* kv.put("k", Uint8Array.of(0, 255), { lease: id })
    const [, event] = yield* eventsUpTo(watcher, second.revision)
    if (event?._tag !== "Put") return assert.fail("a put")
    assert.deepStrictEqual([event.key, event.revision, event.isCreate], ["k", second.revision, false])
    assert.deepStrictEqual(event.entry.value, Uint8Array.of(0, 255))
    assert.deepStrictEqual(
      [event.entry.key, event.entry.createRevision, event.entry.modRevision, event.entry.version, event.entry.lease],
      ["k", first.revision, second.revision, 2, Option.some(id)]
    )
  }),

  test("a watch of one key sees only that key", function*(kv) {
    const watcher = yield* watch(kv, KeyRange.key("k"))
    yield* putAll(kv, ["j", "k\u0000", "ka", "l"])
    const { revision } = yield* kv.put("k", "v")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), ["put k=v new"])
  }),

  test("a watch sees the keys in its range and no others, whatever its bounds", function*(kv) {
    const keys = [
      "\u0000",
      "a",
      "a\u007f",
      "a\u0080",
      "b",
      "b\u0000",
      "\u00ff",
      "\u0100",
      "\ud7ff",
      "\ue000",
      "\uffff",
      "\u{10000}",
      "\u{10ffff}",
      "\u{10ffff}\u{10ffff}"
    ]
    const ranges = [
      KeyRange.all,
      KeyRange.prefix("a"),
      KeyRange.prefix("a\u007f"),
      KeyRange.prefix("\u00ff"),
      KeyRange.prefix("\ud7ff"),
      KeyRange.prefix("\uffff"),
      KeyRange.prefix("\u{10ffff}"),
      KeyRange.from("\uffff"),
      KeyRange.from("\u{10ffff}\u{10ffff}"),
      KeyRange.halfOpen("", "b"),
      KeyRange.halfOpen("a", "b"),
      KeyRange.closed("a", "b"),
      KeyRange.closed("\u0000", "\u0000"),
      KeyRange.halfOpen("\ue000", "\u{10000}")
    ]
    const watchers = yield* Effect.forEach(ranges, (range) => watch(kv, range))
    for (const key of keys.toReversed()) yield* kv.put(key, "v")
    for (const [i, range] of ranges.entries()) {
      const expected = keys.filter((key) => KeyRange.contains(range, key)).toReversed()
      const entry = Option.getOrThrow(yield* kv.getEntry(expected.at(-1)!))
      const events = yield* eventsUpTo(watchers[i]!, entry.modRevision)
      assert.deepStrictEqual(events.map((event) => event.key), expected, JSON.stringify(range))
    }
  }),

  test("putting the same value again creates an event", function*(kv) {
    const watcher = yield* watch(kv, KeyRange.key("k"))
    yield* kv.put("k", "same")
    const { revision } = yield* kv.put("k", "same")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), ["put k=same new", "put k=same"])
  }),

  test("reads, and deletes and transactions that change nothing, create no events", function*(kv) {
    const watcher = yield* watch(kv, KeyRange.all)
    yield* kv.delete("none")
    yield* kv.get("none")
    yield* kv.testAndSet("k", Option.some("x"), "no")
    const { revision } = yield* kv.put("k", "v")
    assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), ["put k=v new"])
  }),

  test("the events of a revision are delivered together, in the order of the writes", function*(kv) {
    yield* putAll(kv, ["x", "y"])
    const watcher = yield* watch(kv, KeyRange.all)
    const txn = yield* kv.txn({
      then: [Op.put("c", "1"), Op.delete("x"), Op.put("a", "2"), Op.txn({ then: [Op.put("b", "3")] })]
    })
    const deleted = yield* kv.deleteRange(KeyRange.from("a"))
    const batches = yield* batchesUpTo(watcher, deleted.revision)
    assert.deepStrictEqual(
      batches.map((batch) => [batch.revision, batch.events.map(words)]),
      [
        [txn.revision, ["put c=1 new", "delete x", "put a=2 new", "put b=3 new"]],
        [deleted.revision, ["delete a", "delete b", "delete c", "delete y"]]
      ]
    )
  }),

  test("a watch sees only the events in its range of a revision", function*(kv) {
    const watcher = yield* watch(kv, KeyRange.prefix("in/"))
    yield* kv.txn({ then: [Op.put("out/1", "v")] })
    const { revision } = yield* kv.txn({ then: [Op.put("in/1", "v"), Op.put("out/1", "v"), Op.put("in/2", "v")] })
    const batches = yield* batchesUpTo(watcher, revision)
    assert.deepStrictEqual(batches.map((batch) => batch.events.map((event) => event.key)), [["in/1", "in/2"]])
  }),

  test("a revision with many events is delivered as one batch", function*(kv) {
    const keys = Array.from({ length: 100 }, (_, i) => `k/${String(i).padStart(3, "0")}`)
    const watcher = yield* watch(kv, KeyRange.all)
    yield* kv.txn({ then: keys.map((key) => Op.put(key, key.repeat(2000))) })
    const { revision } = yield* kv.deleteRange(KeyRange.all)
    const batches = yield* batchesUpTo(watcher, revision)
    assert.deepStrictEqual(batches.map((batch) => batch.events.map((event) => event.key)), [keys, keys])
  }),

  test("a watch can deliver only puts or only deletes", function*(kv) {
    const { revision: start } = yield* kv.put("a", "0")
    const open = (only: "Put" | "Delete", startRevision?: bigint) =>
      watch(kv, KeyRange.all, { only, previous: true, startRevision })
    const puts = [yield* open("Put"), yield* open("Put", start + 1n)]
    const deletes = [yield* open("Delete"), yield* open("Delete", start + 1n)]
    yield* kv.put("a", "1")
    yield* kv.delete("a")
    yield* kv.txn({ then: [Op.put("a", "2"), Op.put("b", "1")] })
    const { revision } = yield* kv.txn({ then: [Op.delete("b"), Op.put("a", "3")] })
    const replays = [yield* open("Put", start + 1n), yield* open("Delete", start + 1n)] as const
    for (const watcher of [...puts, replays[0]]) {
      const seen = yield* wordsUpTo(watcher, revision)
      assert.deepStrictEqual(seen, ["put a=1 was 0", "put a=2 new", "put b=1 new", "put a=3 was 2"])
    }
    for (const watcher of [...deletes, replays[1]]) {
      assert.deepStrictEqual(yield* wordsUpTo(watcher, revision), ["delete a was 1", "delete b was 1"])
    }
  }),

  test("a watch sees the writes of every client", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const watchers = yield* Effect.forEach(clients, (client) => watch(client, KeyRange.prefix("k/")))
    const start = watchers[0]!.revision
    yield* Effect.forEach(
      Array.from({ length: 300 }, (_, i) => i),
      (i): Effect.Effect<unknown, KvError> => {
        const client = clients[i % 3]!
        return i % 7 === 6 ? client.delete(`k/${i % 10}`) : client.put(`k/${i % 10}`, `${i}`)
      },
      { concurrency: 30 }
    )
    const { revision } = yield* kv.put("k/end", "v")
    const [first, ...others] = yield* Effect.forEach(watchers, (watcher) => wordsUpTo(watcher, revision))
    for (const other of others) assert.deepStrictEqual(other, first)
    const replay = yield* watch(kv, KeyRange.prefix("k/"), { startRevision: start + 1n })
    assert.deepStrictEqual(yield* wordsUpTo(replay, revision), first)
    assert.strictEqual(first!.filter((text) => text.startsWith("put k/") && !text.startsWith("put k/end")).length, 258)
  }),

  test("a reader that falls behind gets every event exactly once", function*(kv) {
    const slow = yield* watch(kv, KeyRange.prefix("k/"))
    const fast = yield* watch(kv, KeyRange.prefix("k/"))
    let revision = 0n
    for (let round = 0; round < 20; round++) {
      revision = (yield* kv.txn({ then: numbered(100).map((key) => Op.put(key, `${round}`)) })).revision
      yield* eventsUpTo(fast, revision)
    }
    const batches = yield* batchesUpTo(slow, revision)
    assert.deepStrictEqual(
      batches.map((batch) => batch.events.map((event) => event._tag === "Put" ? event.entry.lossyText : "")),
      Array.from({ length: 20 }, (_, round) => Array.from({ length: 100 }, () => `${round}`))
    )
  }),

  test("each of a thousand concurrent watches sees the events of its own key", function*(kv) {
    const keys = numbered(1000)
    const watchers = yield* Effect.forEach(keys, (key) => watch(kv, KeyRange.key(key)), { concurrency: "unbounded" })
    const all = yield* watch(kv, KeyRange.all)
    yield* putAll(kv, keys)
    const { revision } = yield* kv.put("end", "v")
    assert.strictEqual((yield* eventsUpTo(all, revision)).length, 1001)
    const seen = yield* Effect.forEach(
      watchers,
      (watcher) =>
        Effect.map(promptly("its event", watcher.take), (batches) => batches.flatMap(({ events }) => events)),
      { concurrency: "unbounded" }
    )
    assert.deepStrictEqual(seen.map((events) => events.map((event) => event.key)), keys.map((key) => [key]))
  }),

  test("closing a watch does not affect other watches", function*(kv) {
    const staying = yield* watch(kv, KeyRange.all)
    for (let i = 0; i < 20; i++) {
      const scope = yield* Scope.make()
      const leaving = yield* Scope.provide(watch(kv, KeyRange.all), scope)
      const fiber = yield* Effect.forkChild(leaving.take)
      if (i % 2 === 0) yield* Effect.yieldNow
      yield* promptly("the interruption", Fiber.interrupt(fiber))
      yield* promptly("the end of the watch", Scope.close(scope, Exit.void))
    }
    const { revision } = yield* kv.put("k", "v")
    assert.deepStrictEqual(yield* wordsUpTo(staying, revision), ["put k=v new"])
  }),

  test("an interrupted take loses no event", function*(kv) {
    const watcher = yield* watch(kv, KeyRange.all)
    const start = watcher.revision
    for (let i = 0; i < 20; i++) {
      const fiber = yield* Effect.forkChild(watcher.take)
      yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
      const exit = yield* Fiber.await(fiber)
      if (Exit.isSuccess(exit)) return assert.fail("there was no event to take")
    }
    for (let i = 0; i < 5; i++) yield* kv.put("k", `${i}`)
    assert.strictEqual((yield* eventsUpTo(watcher, start + 5n)).length, 5)
  }),

  test("a take that is interrupted at any of its steps loses no event", function*(kv) {
    const watcher = yield* watch(kv, KeyRange.all)
    const ahead = yield* watch(kv, KeyRange.all)
    const seen: Array<string> = []
    for (let round = 0; round < 60; round++) {
      const { revision } = yield* kv.put("k", `${round}`)
      // From here on the event is there to be taken.
      yield* eventsUpTo(ahead, revision)
      const stepwise = Effect.provideService(watcher.take, References.MaxOpsBeforeYield, 4 + round % 4)
      const fiber = yield* Effect.forkChild(stepwise, { startImmediately: true })
      for (let i = 0; i < round / 4; i++) yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
      const exit = yield* Fiber.await(fiber)
      if (Exit.isSuccess(exit)) seen.push(...exit.value.flatMap(({ events }) => events.map(words)))
    }
    const { revision } = yield* kv.put("k", "end")
    seen.push(...(yield* wordsUpTo(watcher, revision)))
    assert.deepStrictEqual(
      seen,
      [...Array.from({ length: 60 }, (_, i) => `put k=${i}${i === 0 ? " new" : ""}`), "put k=end"]
    )
  }),

  test("a watch fails with Closed when its client is closed", function*(kv) {
    const scope = yield* Scope.make()
    const other = yield* Scope.provide(newClient, scope)
    const watcher = yield* watch(other, KeyRange.all)
    const waiting = yield* Effect.forkChild(reasonOf(watcher.take), { startImmediately: true })
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual((yield* promptly("Closed", Fiber.join(waiting)))._tag, "Closed")
    yield* kv.put("k", "v")
  }),

  test("an open watch reports the status Live", function*(kv) {
    const watcher = yield* watch(kv, KeyRange.all)
    const status = yield* promptly("the status", Stream.runHead(watcher.status))
    assert.strictEqual(Option.getOrThrow(status)._tag, "Live")
  }),

  test("a watch in a namespace delivers keys without the prefix, and no keys outside of it", function*(kv) {
    for (const prefix of ["app/", "\ud7ff", "\u{10ffff}"]) {
      yield* kv.deleteRange(KeyRange.all)
      const app = Kv.prefixed(kv, prefix)
      const inner = Kv.prefixed(app, "in/")
      const watchers = yield* Effect.forEach(
        [KeyRange.all, KeyRange.from("k"), KeyRange.prefix("k"), KeyRange.closed("k", "k"), KeyRange.key("k")],
        (range) => watch(app, range, { previous: true })
      )
      const nested = yield* watch(inner, KeyRange.all)
      yield* Effect.forEach(
        [prefix, "\u0000", "k", "zz", "\u{10ffff}\u{10ffff}"],
        (key) => key === prefix || !key.startsWith(prefix) ? kv.put(key, "outside") : Effect.void
      )
      yield* inner.put("k", "0")
      yield* app.put("k", "1")
      yield* kv.put(`${prefix}k`, "2")
      const { revision } = yield* app.delete("k")
      const onK = ["put k=1 new", "put k=2 was 1", "delete k was 2"]
      const seen = yield* Effect.forEach(watchers, (watcher) => wordsUpTo(watcher, revision))
      assert.deepStrictEqual(seen, [["put in/k=0 new", ...onK], onK, onK, onK, onK])
      yield* inner.delete("k")
      const { revision: last } = yield* inner.put("l", "3")
      assert.deepStrictEqual(yield* wordsUpTo(nested, last), ["put k=0 new", "delete k", "put l=3 new"])
    }
  }),

  test("a watch sees the revocation of a lease as one revision of deletes", function*(kv) {
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* kv.put("b", "1", { lease: id })
    yield* kv.put("a", "2", { lease: id })
    const watcher = yield* watch(kv, KeyRange.all, { previous: true })
    yield* backendOf(kv).leaseRevoke(id)
    const batches = yield* batchesUpTo(watcher, watcher.revision + 1n)
    assert.deepStrictEqual(batches.map((batch) => batch.events.map(words).toSorted()), [
      ["delete a was 2", "delete b was 1"]
    ])
  }),

  waitingTest("a watch sees the expiry of a lease as one revision of deletes", function*(kv) {
    const store = yield* Store
    const { id } = yield* backendOf(kv).leaseGrant({ ttl: "2 seconds" })
    const watcher = yield* watch(kv, KeyRange.prefix("expiring/"), { previous: true })
    yield* kv.txn({ then: ["b", "a"].map((key) => Op.put(`expiring/${key}`, key, { lease: id })) })
    const reading = yield* Effect.forkChild(
      Effect.all([promptly("the puts", watcher.take), promptly("the deletes", watcher.take)])
    )
    yield* Effect.repeat(store.passTime("250 millis"), { times: 39, until: () => reading.pollUnsafe() !== undefined })
    const [puts, deletes] = yield* Fiber.join(reading)
    assert.deepStrictEqual([puts.length, deletes.length], [1, 1])
    assert.deepStrictEqual(deletes[0].events.map(words).toSorted(), [
      "delete expiring/a was a",
      "delete expiring/b was b"
    ])
  })
])
