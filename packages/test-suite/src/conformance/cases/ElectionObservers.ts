/**
 * Observers of an election: each leader, each proclaimed value and each vacancy, in order and without a gap.
 */
import * as Election from "@effect-kv/core/Election"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { chapter, newClient, promptly, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { candidate, follow, lead } from "./electing.ts"
import * as faults from "./faults.ts"
import { exitOf, on, soon } from "./locking.ts"

export const cases = chapter("elections", [
  test("an observer sees each leader, each proclamation and each vacancy, in order", function*(kv) {
    const observer = yield* follow(yield* newClient, "e")
    yield* observer.until("none")
    const first = yield* lead(kv, "e", { value: "a" })
    yield* first.proclaim("a2")
    const second = yield* candidate(yield* newClient, "e", (leadership) => leadership.proclaim("b2"), { value: "b" })
    yield* first.resign
    yield* promptly("the second led", Fiber.join(second))
    yield* observer.until("none", "a", "a2", "b", "b2", "none")
  }),

  test("an observer that reads slowly misses no leader", function*(kv) {
    const barrier = yield* faults.barrier
    const reading = yield* Election.observe("e").pipe(
      Stream.tap((leader) => Option.isNone(leader) ? barrier.stop : Effect.void),
      Stream.map(Option.map(({ value }) => value)),
      Stream.takeUntil(Option.contains("last")),
      Stream.runCollect,
      on(kv),
      Effect.forkScoped
    )
    yield* promptly("the observer reads", barrier.reached)
    const expected: Array<Option.Option<string>> = [Option.none()]
    for (const value of ["a", "b", "c"]) {
      const { resign } = yield* lead(kv, "e", { value })
      yield* resign
      expected.push(Option.some(value), Option.none())
    }
    yield* lead(kv, "e", { value: "last" })
    yield* barrier.letGo
    assert.deepStrictEqual(yield* promptly("the last leader", Fiber.join(reading)), [...expected, Option.some("last")])
  }),

  test("an observer that is subscribed never misses the first leader", function*(kv) {
    const other = yield* newClient
    for (let i = 0; i < 50; i++) {
      const observer = yield* follow(other, `e${i}`)
      const { resign } = yield* lead(kv, `e${i}`, { value: "leader" })
      yield* resign
      yield* observer.until("none", "leader", "none")
      yield* Fiber.interrupt(observer.fiber)
    }
  }),

  test("a transaction that replaces the leader is one change for an observer", function*(kv) {
    const observer = yield* follow(kv, "e")
    yield* kv.put("e/1", "a")
    yield* kv.txn({ then: [Op.delete("e/1"), Op.put("e/2", "b")] })
    yield* kv.delete("e/2")
    yield* observer.until("none", "a", "b", "none")
  }),

  waitingTest("an observer continues after a compaction of what it missed, with the leader of then", function*(kv) {
    const name = "election/observer"
    const store = yield* Store
    const held = faults.make()
    const client = yield* faults.newClientWith(held)
    const { revision } = yield* kv.put(`${name}.other`, "1")
    // The watch of the observer ends as one does whose history was compacted; the next one works.
    let failures = 1
    const leadership = yield* lead(kv, name, { value: "a" })
    const compacted = yield* Kv.make({
      ...backendOf(client),
      watch: (request) =>
        Effect.map(backendOf(client).watch(request), (watcher) => ({
          ...watcher,
          take: Effect.suspend(() =>
            failures > 0 && seen.length > 0
              ? Effect.flatMap(barrier.stop, () => {
                failures--
                return KvError.fail(new KvError.Compacted({ compactRevision: Option.some(revision) }))
              })
              : watcher.take
          )
        }))
    })
    const seen: Array<string> = []
    const barrier = yield* faults.barrier
    const observing = Election.observe(name).pipe(
      Stream.runForEach((leader) =>
        Effect.sync(() => seen.push(Option.match(leader, { onNone: () => "none", onSome: ({ value }) => value })))
      ),
      on(compacted)
    )
    yield* Effect.forkScoped(observing)
    yield* promptly("the watch ends", barrier.reached)
    yield* leadership.resign
    const next = yield* lead(kv, name, { value: "b" })
    yield* store.compact((yield* kv.put(`${name}.other`, "2")).revision)
    yield* barrier.letGo
    yield* waitUntil("the next leader", Effect.sync(() => seen.length === 2))
    assert.deepStrictEqual(seen, ["a", "b"])
    yield* next.resign
    yield* soon("the vacancy", Effect.sync(() => seen.length === 3))
    assert.deepStrictEqual(seen, ["a", "b", "none"])
  }),

  waitingTest("a new observer sees a leader whose key is older than the history", function*(kv) {
    const name = "election/idle"
    const store = yield* Store
    yield* lead(kv, name, { value: "idle" })
    yield* store.compact((yield* kv.put(`${name}.other`, "1")).revision)
    const observer = yield* follow(yield* newClient, name)
    yield* observer.until("idle")
  }),

  waitingTest("an observer fails with Closed when its client is closed", function*(kv) {
    const name = "election/closed"
    const ended = yield* Effect.scoped(Effect.gen(function*() {
      return (yield* follow(yield* newClient, name)).fiber
    }))
    const exit = yield* exitOf("the end", ended)
    assert.isTrue(Exit.isFailure(exit))
    assert.strictEqual(yield* kv.count(KeyRange.prefix(`${name}/`)), 0)
  })
])
