/**
 * Watches whose `take` is transformed: an interruption loses no revision, and a failed opening leaves no watch.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf, watcherOf } from "@effect-kv/core/KvInternals"
import type { Watcher } from "@effect-kv/core/Watch"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { TestClock } from "effect/testing"

const burn = (steps: number): Effect.Effect<void> => steps === 0 ? Effect.void : Effect.suspend(() => burn(steps - 1))

/** Numbers of steps around that after which a fiber yields: `Scheduler.MaxOpsBeforeYield` is 2048. */
const points = Array.from({ length: 45 }, (_, i) => 2012 + i)

describe("take", () => {
  it.live("in a namespace leaves its revisions to the next take if it is interrupted", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = Kv.prefixed(yield* Kv.make(yield* store.connect), "app/")
      for (const steps of points) {
        yield* Effect.scoped(Effect.gen(function*() {
          const watcher: Watcher = yield* backendOf(kv).watch({ range: KeyRange.all })
          yield* kv.put("a", "1")
          const fiber = Effect.runFork(Effect.andThen(burn(steps), watcher.take))
          fiber.interruptUnsafe()
          if (Exit.isFailure(yield* Fiber.await(fiber))) {
            const next = yield* Effect.timeoutOption(watcher.take, "10 seconds")
            assert.isTrue(Option.isSome(next), `lost after ${steps} steps`)
          }
        }))
      }
    }), 60_000)
})

describe("a watch that resumes", () => {
  it.live("leaves the revisions of an interrupted take to the next one", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Kv.make(yield* store.connect)
      for (const steps of points) {
        yield* Effect.scoped(Effect.gen(function*() {
          const watcher = watcherOf(yield* kv.subscribe(KeyRange.key("a"), { resume: Schedule.recurs(1) }))
          yield* kv.put("a", "1")
          const fiber = Effect.runFork(Effect.andThen(burn(steps), watcher.take))
          fiber.interruptUnsafe()
          if (Exit.isFailure(yield* Fiber.await(fiber))) {
            const next = yield* Effect.timeoutOption(watcher.take, "10 seconds")
            assert.isTrue(Option.isSome(next), `lost after ${steps} steps`)
          }
        }))
      }
    }), 60_000)

  it.effect("is opened again by the next take if the previous one was interrupted before that", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const backend = yield* store.connect
      let opened = 0
      const kv = yield* Kv.make({
        ...backend,
        watch: (request) =>
          Effect.map(backend.watch(request), (watcher) =>
            opened++ === 0
              ? { ...watcher, take: KvError.fail(new KvError.PermissionDenied({ message: "not now" })) }
              : watcher)
      })
      const watcher = watcherOf(yield* kv.subscribe(KeyRange.key("a"), { resume: Schedule.spaced("1 minute") }))
      const interrupted = yield* Effect.forkChild(watcher.take, { startImmediately: true })
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.interrupt(interrupted)
      yield* kv.put("a", "1")
      const next = yield* Effect.forkChild(watcher.take, { startImmediately: true })
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* Fiber.join(next)).length, 1)
      assert.strictEqual((yield* store.statistics).watches, 1)
    }))
})

describe("snapshotAndWatch", () => {
  it.effect("leaves no watch behind when its read fails", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const backend = yield* store.connect
      const kv = yield* Kv.make({
        ...backend,
        execute: () => KvError.fail(new KvError.Unavailable({ message: "unreachable" }))
      })
      for (let i = 0; i < 3; i++) {
        assert.isTrue(Exit.isFailure(yield* Effect.exit(kv.snapshotAndWatch(KeyRange.all))))
      }
      assert.strictEqual((yield* store.statistics).watches, 0)
    }))
})
