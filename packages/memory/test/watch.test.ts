/**
 * Watches deliver every event exactly once, even if a consumer is slow or interrupted, or compaction overtakes it.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import type * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

const open = Effect.fnUntraced(function*(options?: MemoryStore.Options) {
  const store = yield* MemoryStore.make(options)
  return { store, backend: yield* store.connect }
})

const put = (backend: KvBackend, key: string, value = "1") => backend.execute(Op.put(key, value))

const revisions = (batches: ReadonlyArray<Watch.Revision>) => batches.map((batch) => Number(batch.revision))

const failure = <A, R>(effect: Effect.Effect<A, KvError.KvError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

describe("a watch", () => {
  it.effect("loses and repeats no revision, wherever a take is interrupted", () =>
    Effect.gen(function*() {
      for (let steps = 0; steps < 40; steps++) {
        const { backend } = yield* open()
        const watcher = yield* backend.watch({ range: KeyRange.prefix("a") })
        const taken: Array<number> = []
        const take = Effect.map(watcher.take, (batches) => taken.push(...revisions(batches)))
        // Gives way between any two of its operations (with less than 3 it gets nowhere), so that it is interrupted in
        // each of its states.
        const fiber = yield* take.pipe(
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 3),
          Effect.forkChild({ startImmediately: true })
        )
        yield* put(backend, "a1")
        for (let i = 0; i < steps; i++) yield* Effect.yieldNow
        yield* put(backend, "a2")
        yield* Fiber.interrupt(fiber)
        yield* put(backend, "a3")
        while (taken.at(-1) !== 4) yield* take
        assert.deepStrictEqual(taken, [2, 3, 4], `interrupted after ${steps} steps`)
      }
    }))

  it.effect("without a consumer does not delay others, and delivers whole revisions in several takes", () =>
    Effect.gen(function*() {
      const { backend } = yield* open()
      const slow = yield* backend.watch({ range: KeyRange.all })
      const fast = yield* backend.watch({ range: KeyRange.key("k7") })
      for (let i = 0; i < 5_000; i++) yield* put(backend, `k${i}`)
      yield* backend.execute(Op.deleteRange(KeyRange.all))
      assert.deepStrictEqual(revisions(yield* fast.take), [9, 5_002])
      const batches: Array<Watch.Revision> = []
      while (batches.at(-1)?.revision !== 5_002n) {
        const taken = yield* slow.take
        assert.isAtMost(taken.length, 1_024)
        batches.push(...taken)
      }
      assert.deepStrictEqual(revisions(batches), Array.from({ length: 5_001 }, (_, i) => i + 2))
      assert.strictEqual(batches.at(-1)!.events.length, 5_000)
    }))

  it.effect("that compaction passes fails with the revision of the compaction, after which it can be started, again and again", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open({ history: { revisions: 10 } })
      const watcher = yield* backend.watch({ range: KeyRange.all })
      for (let i = 0; i < 30; i++) yield* put(backend, `k${i}`)
      for (let i = 0; i < 2; i++) {
        const reason = yield* failure(watcher.take)
        assert.deepStrictEqual(reason._tag === "Compacted" && reason.compactRevision, Option.some(21n))
      }
      assert.strictEqual(
        (yield* failure(
          Effect.flatMap(backend.watch({ range: KeyRange.all, startRevision: 21n }), (watcher) => watcher.take)
        ))._tag,
        "Compacted"
      )
      const restarted = yield* backend.watch({ range: KeyRange.all, startRevision: 22n, previous: true })
      assert.deepStrictEqual(revisions(yield* restarted.take), [22, 23, 24, 25, 26, 27, 28, 29, 30, 31])
      yield* store.compact(31n)
      yield* put(backend, "k0")
      assert.deepStrictEqual(revisions(yield* restarted.take), [32])
    }))

  it.effect("without unread events is not affected by compaction", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open({ history: { revisions: 10 } })
      const watcher = yield* backend.watch({ range: KeyRange.key("rare") })
      for (let i = 0; i < 100; i++) yield* put(backend, "often", `${i}`)
      yield* store.compact(101n)
      yield* put(backend, "rare")
      assert.deepStrictEqual(revisions(yield* watcher.take), [102])
    }))

  it.effect("from after the compacted revision on gets its events, with what came before it forgotten", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open()
      yield* put(backend, "a")
      yield* backend.execute(Op.delete("a"))
      yield* put(backend, "a")
      yield* backend.execute(Op.delete("a"))
      yield* store.compact(3n)
      const watcher = yield* backend.watch({ range: KeyRange.key("a"), startRevision: 4n, previous: true })
      const events = (yield* watcher.take).flatMap((batch) => batch.events)
      assert.deepStrictEqual(events.map(({ _tag, previous, revision }) => [_tag, revision, previous._tag]), [
        ["Put", 4n, "None"],
        ["Delete", 5n, "Some"]
      ])
    }))

  it.effect("delivers the entry before the revision as previous, not one written within it", () =>
    Effect.gen(function*() {
      const { backend } = yield* open()
      yield* put(backend, "a", "old")
      const watcher = yield* backend.watch({ range: KeyRange.all, previous: true })
      const putA = Op.txn({ then: [Op.put("a", "new")] })
      const deleteA = Op.txn({ then: [Op.delete("a")] })
      yield* backend.execute(Op.txn({ then: [putA, deleteA] }))
      const events = (yield* watcher.take).flatMap((batch) => batch.events)
      assert.deepStrictEqual(
        events.map(({ _tag, previous }) => [_tag, previous._tag === "Some" && previous.value.lossyText]),
        [["Put", "old"], ["Delete", "old"]]
      )
    }))

  it.effect("from a revision in the future waits for it", () =>
    Effect.gen(function*() {
      const { backend } = yield* open()
      const watcher = yield* backend.watch({ range: KeyRange.all, startRevision: 5n })
      assert.strictEqual(watcher.revision, 4n)
      for (let i = 0; i < 6; i++) yield* put(backend, "a", `${i}`)
      assert.deepStrictEqual(revisions(yield* watcher.take), [5, 6, 7])
    }))

  it.effect("resumes its consumer after a write, not in the middle of it", () =>
    Effect.gen(function*() {
      const { backend } = yield* open()
      const watcher = yield* backend.watch({ range: KeyRange.all })
      const log: Array<string> = []
      const consumer = yield* watcher.take.pipe(
        Effect.flatMap((batches) => Effect.sync(() => log.push(`taken ${revisions(batches)}`))),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Effect.andThen(put(backend, "a"), Effect.sync(() => log.push("put 2")))
      yield* Effect.andThen(put(backend, "b"), Effect.sync(() => log.push("put 3")))
      yield* Fiber.join(consumer)
      assert.deepStrictEqual(log, ["put 2", "put 3", "taken 2,3"])
    }))

  it.effect("that is closed costs nothing and ends a take and the status with it", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open()
      const scope = yield* Scope.make()
      const watchers = yield* Effect.forEach(
        [KeyRange.key("a"), KeyRange.key("a"), KeyRange.prefix("a")],
        (range) => Scope.provide(backend.watch({ range }), scope)
      )
      assert.strictEqual((yield* store.statistics).watches, 3)
      const take = yield* Effect.forkChild(failure(watchers[0]!.take), { startImmediately: true })
      const status = yield* Effect.forkChild(Stream.runCollect(watchers[0]!.status), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(take))._tag, "Closed")
      assert.deepStrictEqual(yield* Fiber.join(status), [{ _tag: "Live", revision: 1n }])
      assert.strictEqual((yield* failure(watchers[2]!.take))._tag, "Closed")
      assert.strictEqual((yield* store.statistics).watches, 0)
    }))

  it.effect("ends with its client, even if its own scope is still open", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const client = yield* Scope.make()
      const backend = yield* Scope.provide(store.connect, client)
      const watcher = yield* backend.watch({ range: KeyRange.all })
      const take = yield* Effect.forkChild(failure(watcher.take), { startImmediately: true })
      yield* Scope.close(client, Exit.void)
      assert.strictEqual((yield* Fiber.join(take))._tag, "Closed")
      assert.strictEqual((yield* store.statistics).watches, 0)
      assert.strictEqual((yield* failure(backend.watch({ range: KeyRange.all })))._tag, "Closed")
    }))

  it.effect("that is opened and closed among thousands does not affect the others", () =>
    Effect.gen(function*() {
      const { backend, store } = yield* open()
      const watchers = yield* Effect.forEach(
        Array.from({ length: 5_000 }, (_, i) => i),
        (i) => backend.watch({ range: i % 2 === 0 ? KeyRange.key(`k${i}`) : KeyRange.prefix(`k${i}/`) })
      )
      for (let i = 0; i < 1_000; i++) yield* Effect.scoped(backend.watch({ range: KeyRange.prefix(`k${i}`) }))
      assert.strictEqual((yield* store.statistics).watches, 5_000)
      yield* put(backend, "k4000")
      yield* put(backend, "k4001/x")
      assert.deepStrictEqual(revisions(yield* watchers[4_000]!.take), [2])
      assert.deepStrictEqual(revisions(yield* watchers[4_001]!.take), [3])
      // The key was written before, and no watch matched it then.
      const late = yield* backend.watch({ range: KeyRange.key("k4000") })
      yield* put(backend, "k4000")
      assert.deepStrictEqual(revisions(yield* late.take), [4])
    }))
})
