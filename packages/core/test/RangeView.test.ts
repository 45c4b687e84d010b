import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as RangeView from "@effect-kv/core/RangeView"
import type * as Watch from "@effect-kv/core/Watch"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { TestClock } from "effect/testing"

/** A client whose watches deliver nothing until the gate is open, and whose next `reads.failing` reads fail. */
const held = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const gate = yield* Latch.make(false)
  const reads = { failing: 0, made: 0 }
  const hold = (backend: KvBackend): KvBackend => ({
    ...backend,
    watch: (request) =>
      Effect.map(backend.watch(request), (watcher) => ({ ...watcher, take: Effect.andThen(gate.await, watcher.take) })),
    execute: (op) =>
      Effect.suspend(() => {
        if (op._tag === "Range") reads.made++
        return op._tag === "Range" && reads.failing-- > 0
          ? KvError.fail(new KvError.Unavailable({ message: "unreachable" }))
          : backend.execute(op)
      })
  })
  const kv = yield* Kv.make(yield* store.connect)
  return { store, kv, gate, reads, watching: Kv.mapBackend(kv, hold) }
})

const textsOf = (snapshot: RangeView.Snapshot) =>
  Object.fromEntries([...snapshot.entries].map(([key, entry]) => [key, entry.lossyText]))

const eventually = (view: RangeView.RangeView, expected: Record<string, string>) =>
  view.changes.pipe(
    Stream.map(textsOf),
    Stream.takeUntil((texts) => JSON.stringify(texts) === JSON.stringify(expected)),
    Stream.runDrain
  )

/** Makes changes that a held watch has not seen, and compacts them. */
const overtake = Effect.fnUntraced(function*(store: MemoryStore.MemoryStore, kv: Kv.Kv) {
  yield* kv.put("a", "1")
  yield* kv.delete("old")
  yield* kv.put("a", "2")
  const { revision } = yield* kv.put("b", "3")
  yield* store.compact(revision)
})

/** A client that writes between its watch and its read, and whose watches deliver one revision at a time. */
const overlapping = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const kv = yield* Kv.make(yield* store.connect)
  yield* kv.put("a", "0")
  const writes = Effect.andThen(kv.put("a", "1"), Effect.andThen(kv.delete("a"), kv.put("b", "2")))
  let written = false
  const overlap = (backend: KvBackend): KvBackend => ({
    ...backend,
    execute: (op) =>
      Effect.suspend(() => {
        if (op._tag !== "Range" || written) return backend.execute(op)
        written = true
        return Effect.andThen(writes, backend.execute(op))
      }),
    watch: (request) => Effect.map(backend.watch(request), oneByOne)
  })
  return { kv, overlapping: Kv.mapBackend(kv, overlap) }
})

const oneByOne = (watcher: Watch.Watcher): Watch.Watcher => {
  const pending: Array<Watch.Revision> = []
  const take: Watch.Watcher["take"] = Effect.suspend(() => {
    const next = pending.shift()
    return next === undefined
      ? Effect.flatMap(watcher.take, (revisions) => {
        pending.push(...revisions)
        return take
      })
      : Effect.as(Effect.yieldNow, [next] as const)
  })
  return { ...watcher, take }
}

describe("snapshotAndWatch", () => {
  it.effect("delivers a change between the watch and the read once, in the snapshot", () =>
    Effect.gen(function*() {
      const { kv, overlapping: overlapped } = yield* overlapping
      const subscription = yield* overlapped.snapshotAndWatch(KeyRange.all)
      assert.deepStrictEqual(subscription.entries.map((entry) => [entry.key, entry.lossyText]), [["b", "2"]])
      const { revision } = yield* kv.put("c", "3")
      const first = yield* Stream.runHead(subscription.revisions)
      assert.deepStrictEqual(Option.map(first, (watched) => watched.revision), Option.some(revision))
    }))
})

describe("RangeView", () => {
  it.effect("is stale from a cut until it has delivered what it missed, not only until it is connected again", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Kv.make(yield* store.connect)
      yield* kv.put("a", "1")
      const status = yield* SubscriptionRef.make<Watch.Status>({ _tag: "Live", revision: 0n })
      const gate = yield* Latch.make(true)
      const watching = Kv.mapBackend(kv, (backend) => ({
        ...backend,
        watch: (request) =>
          Effect.map(backend.watch(request), (watcher) => ({
            ...watcher,
            take: Effect.andThen(gate.await, watcher.take),
            status: SubscriptionRef.changes(status)
          }))
      }))
      const view = yield* Effect.provideService(RangeView.make(KeyRange.all), Kv.Kv, watching)
      const seen: Array<boolean> = []
      // All that can happen without time passing.
      const settled = Effect.andThen(Effect.replicateEffect(Effect.yieldNow, 200), TestClock.adjust("1 second"))
      yield* view.staleSince.pipe(
        Stream.runForEach((since) => Effect.sync(() => seen.push(Option.isSome(since)))),
        Effect.forkScoped
      )
      yield* settled
      assert.deepStrictEqual(seen, [false])
      for (const change of [kv.put("b", "2"), kv.delete("a"), kv.put("c", "3")]) {
        seen.length = 0
        yield* gate.close
        // The pending take delivers one more.
        yield* kv.put("pending", "")
        yield* settled
        yield* SubscriptionRef.set(status, { _tag: "Interrupted", message: "says the test" })
        yield* settled
        yield* change
        yield* SubscriptionRef.set(status, { _tag: "Live", revision: 0n })
        yield* settled
        assert.deepStrictEqual(seen, [true])
        yield* gate.open
        yield* settled
        assert.deepStrictEqual(seen, [true, false])
      }
      // A cut in which nothing changed ends with the connection.
      seen.length = 0
      yield* SubscriptionRef.set(status, { _tag: "Interrupted", message: "says the test" })
      yield* settled
      yield* SubscriptionRef.set(status, { _tag: "Live", revision: 0n })
      yield* settled
      assert.deepStrictEqual(seen, [true, false])
    }))

  it.effect("never goes back to a state before its read", () =>
    Effect.gen(function*() {
      const { kv, overlapping: overlapped } = yield* overlapping
      const view = yield* Effect.provideService(RangeView.make(KeyRange.all), Kv.Kv, overlapped)
      const seen = yield* Effect.forkChild(
        Stream.runCollect(Stream.takeUntil(view.changes, (snapshot) => snapshot.entries.has("end"))),
        { startImmediately: true }
      )
      yield* kv.put("end", "v")
      const snapshots = yield* Fiber.join(seen)
      assert.deepStrictEqual(textsOf(snapshots[0]!), { b: "2" })
      for (const snapshot of snapshots) {
        assert.isTrue(snapshot.revision >= snapshots[0]!.revision)
        assert.deepStrictEqual({ ...textsOf(snapshot), end: "v" }, { b: "2", end: "v" })
      }
    }))

  it.effect("recovers from a compaction with one read", () =>
    Effect.gen(function*() {
      const { gate, kv, reads, store, watching } = yield* held
      yield* kv.put("old", "0")
      const view = yield* Effect.provideService(RangeView.make(KeyRange.all), Kv.Kv, watching)
      assert.deepStrictEqual(textsOf(yield* view.snapshot), { old: "0" })
      yield* overtake(store, kv)
      reads.made = 0
      yield* gate.open
      yield* eventually(view, { a: "2", b: "3" })
      assert.strictEqual(reads.made, 1)
      yield* kv.put("a", "4")
      yield* eventually(view, { a: "4", b: "3" })
      assert.strictEqual(reads.made, 1)
    }))

  it.effect("keeps its last snapshot until it has recovered, however long the outage", () =>
    Effect.gen(function*() {
      const { gate, kv, reads, store, watching } = yield* held
      yield* kv.put("old", "0")
      const view = yield* Effect.provideService(RangeView.make(KeyRange.all), Kv.Kv, watching)
      yield* overtake(store, kv)
      reads.failing = 3
      yield* gate.open
      const recovered = yield* Effect.forkChild(eventually(view, { a: "2", b: "3" }))
      yield* TestClock.adjust("300 millis")
      assert.deepStrictEqual(textsOf(yield* view.snapshot), { old: "0" })
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(recovered)
    }))

  it.effect("shows each change once, and never an older one", () =>
    Effect.gen(function*() {
      const { gate, kv, watching } = yield* held
      yield* kv.put("a", "1")
      const view = yield* Effect.provideService(RangeView.make(KeyRange.all), Kv.Kv, watching)
      yield* Effect.forEach(["2", "3", "4"], (value) => kv.put("a", value))
      const seen = yield* Effect.forkChild(
        Stream.runCollect(Stream.takeUntil(Stream.map(view.changes, textsOf), (texts) => texts["a"] === "4")),
        { startImmediately: true }
      )
      yield* gate.open
      const texts = yield* Fiber.join(seen)
      assert.deepStrictEqual(texts.at(-1), { a: "4" })
      const values = texts.map((each) => Number(each["a"]))
      assert.deepStrictEqual(values, values.toSorted((a, b) => a - b))
    }))

  it.effect("fails for readers and waiters once it is no longer kept current", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const client = yield* Scope.make()
      const kv = yield* Kv.make(yield* Scope.provide(store.connect, client))
      yield* kv.put("a", "1")
      const view = yield* Effect.provideService(RangeView.make(KeyRange.all), Kv.Kv, kv)
      const waiting = yield* Effect.forkChild(Effect.flip(Stream.runDrain(view.changes)), { startImmediately: true })
      yield* Scope.close(client, Exit.void)
      assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "Closed")
      assert.strictEqual((yield* Effect.flip(view.snapshot)).reason._tag, "Closed")
      assert.strictEqual((yield* Effect.flip(view.get("a"))).reason._tag, "Closed")
    }))

  it.effect("does not change a snapshot that was taken", () =>
    Effect.gen(function*() {
      const { gate, kv, watching } = yield* held
      yield* gate.open
      yield* kv.put("a", "1")
      const view = yield* Effect.provideService(RangeView.make(KeyRange.all), Kv.Kv, watching)
      const before = yield* view.snapshot
      yield* kv.put("b", "2")
      yield* eventually(view, { a: "1", b: "2" })
      assert.deepStrictEqual(textsOf(before), { a: "1" })
    }))

  it.effect("closes its watch with its scope", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Kv.make(yield* store.connect)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Effect.provideService(RangeView.make(KeyRange.all), Kv.Kv, kv)
        assert.strictEqual((yield* store.statistics).watches, 1)
      }))
      assert.strictEqual((yield* store.statistics).watches, 0)
    }))
})
