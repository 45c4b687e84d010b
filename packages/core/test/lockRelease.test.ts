/**
 * Releases of locks and temporary keys when the program or the store fails at an awkward moment.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import * as Slot from "@effect-kv/core/Slot"
import * as TempKey from "@effect-kv/core/TempKey"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

const indeterminate = KvError.fail(new KvError.Indeterminate({ message: "the response was lost" }))

const isRemoval = (op: Op.Op): boolean => op._tag === "Txn" && op.then.some((inner) => inner._tag === "Delete")

/** Two clients of one store, the first through `wrap`. */
const clients = Effect.fnUntraced(function*(wrap: (backend: KvBackend) => KvBackend = (backend) => backend) {
  const store = yield* MemoryStore.make()
  return {
    kv: yield* Kv.make(wrap(yield* store.connect)),
    other: yield* Kv.make(yield* store.connect)
  }
})

const isFree = (kv: Kv.Kv, name: string) =>
  Effect.scoped(Effect.map(DistLock.tryAcquire(name), Option.isSome)).pipe(Effect.provideService(Kv.Kv, kv))

describe("a lock", () => {
  it.effect("is released when the function for its body throws", () =>
    Effect.gen(function*() {
      const { kv, other } = yield* clients()
      const exit = yield* DistLock.use("l", (): Effect.Effect<void> => {
        throw new Error("boom")
      }).pipe(Effect.provideService(Kv.Kv, kv), Effect.exit)
      assert.isTrue(Exit.hasDies(exit))
      assert.isTrue(yield* isFree(other, "l"))
    }))

  it.effect("does not count as lost if its removal succeeded but the response was lost", () =>
    Effect.gen(function*() {
      let lost = 0
      const { kv, other } = yield* clients((backend) => ({
        ...backend,
        execute: (op) =>
          Effect.suspend(() =>
            isRemoval(op) && lost++ === 0
              ? Effect.andThen(backend.execute(op), indeterminate)
              : backend.execute(op)
          )
      }))
      const fiber = yield* DistLock.withDistLock(Kv.put("x", "1"), "l").pipe(
        Effect.provideService(Kv.Kv, kv),
        Effect.exit,
        Effect.forkChild
      )
      while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust("100 millis")
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(fiber)))
      assert.strictEqual(lost, 2)
      assert.isTrue(yield* isFree(other, "l"))
    }))

  it.effect("frees the name of its key if the store rejects the write", () =>
    Effect.gen(function*() {
      let rejected = 0
      const { kv } = yield* clients((backend) => ({
        ...backend,
        execute: (op) =>
          Effect.suspend(() =>
            op._tag === "Txn" && !isRemoval(op) && rejected++ === 0
              ? KvError.fail(new KvError.PermissionDenied({ message: "denied once" }))
              : backend.execute(op)
          )
      }))
      const keyOf = DistLock.use("l", ({ key }) => Effect.succeed(key)).pipe(Effect.provideService(Kv.Kv, kv))
      assert.strictEqual((yield* Effect.flip(keyOf))._tag, "KvError")
      // The same session would have to choose another name if this one were still in use.
      assert.match(yield* keyOf, /^l\/[0-9a-f]+$/)
    }))

  it.effect("cannot be acquired while its client closes, even if a session is open", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const scope = yield* Scope.make()
      const kv = yield* Scope.provide(Kv.make(yield* store.connect), scope)
      const isHeld = Latch.makeUnsafe()
      const isEnding = Latch.makeUnsafe()
      const mayEnd = Latch.makeUnsafe()
      const holder = yield* Effect.andThen(isHeld.open, Effect.never).pipe(
        Effect.onInterrupt(() => Effect.andThen(isEnding.open, mayEnd.await)),
        DistLock.withDistLock("l"),
        Effect.provideService(Kv.Kv, kv),
        Effect.exit,
        Effect.forkChild
      )
      yield* isHeld.await
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* isEnding.await
      const error = yield* DistLock.withDistLock(Effect.void, "l/2").pipe(Effect.provideService(Kv.Kv, kv), Effect.flip)
      assert.strictEqual(error._tag === "KvError" ? error.reason._tag : error._tag, "Closed")
      yield* mayEnd.open
      yield* Fiber.join(holder)
      yield* Fiber.join(closing)
    }))

  it.effect("has one fence, however often it is used", () =>
    Effect.gen(function*() {
      const { kv } = yield* clients()
      const lock = yield* Effect.provideService(DistLock.acquire("l"), Kv.Kv, kv)
      const [first] = yield* DistLock.fenced(Fence.Current, lock)
      const [second] = yield* DistLock.fenced(Fence.Current, lock)
      assert.isDefined(first)
      assert.strictEqual(first, second)
    }))

  it.effect("is lost when its key is deleted, even if the store rejected the watch once", () =>
    Effect.gen(function*() {
      let attempts = 0
      const { kv, other } = yield* clients((backend) => ({
        ...backend,
        watch: (request) =>
          attempts++ === 0
            ? KvError.fail(new KvError.Unauthenticated({ message: "the token was rejected" }))
            : backend.watch(request)
      }))
      const fiber = yield* DistLock.withDistLock(Effect.never, "l").pipe(
        Effect.provideService(Kv.Kv, kv),
        Effect.flip,
        Effect.forkChild
      )
      yield* TestClock.adjust("1 second")
      yield* other.deleteRange(KeyRange.prefix("l/"))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "LockLost")
    }))
})

/** Acquisitions until a scope closes. Each returns an effect that says whether it is still held. */
const acquisitions = {
  "a lock": Effect.map(DistLock.acquire("l"), (lock) => lock.isHeld),
  "two locks": Effect.map(DistLock.acquire(["l", "l/2"]), (lock) => lock.isHeld),
  "a lock within a time limit": Effect.map(
    DistLock.acquire("l", { acquireTimeout: "1 second" }),
    (lock) => lock.isHeld
  ),
  "two locks if they are free": Effect.map(
    DistLock.tryAcquire(["l", "l/2"]),
    Option.match({ onNone: () => Effect.succeed(false), onSome: (lock) => lock.isHeld })
  ),
  "a slot": Effect.map(Slot.acquire("l", { size: 1 }), (slot) => slot.isHeld),
  "a lock for an effect": Effect.as(DistLock.withDistLock(Effect.yieldNow, "l"), Effect.succeed(false)),
  "a temporary key": Effect.as(TempKey.make("l/t"), Effect.succeed(false))
}

/** How an acquisition ends. */
const ends = {
  "its scope closes": (scope: Scope.Closeable) => Scope.close(scope, Exit.void),
  "it is interrupted": (_: Scope.Closeable, acquiring: Fiber.Fiber<unknown>) => Fiber.interrupt(acquiring)
}

/** Ends an acquisition after so many steps. Returns whether it had completed by then. */
const acquireAndEnd = Effect.fnUntraced(function*(
  acquire: Effect.Effect<Effect.Effect<boolean>, unknown, Kv.Kv | Scope.Scope>,
  end: (scope: Scope.Closeable, acquiring: Fiber.Fiber<unknown>) => Effect.Effect<unknown>,
  ops: number,
  steps: number
) {
  const { kv, other } = yield* clients((backend) => ({
    ...backend,
    execute: (op) => Effect.andThen(Effect.yieldNow, backend.execute(op))
  }))
  yield* Effect.provideService(DistLock.acquire("keeps-the-session"), Kv.Kv, kv)
  const scope = yield* Scope.make()
  const acquiring = yield* Scope.provide(acquire, scope).pipe(
    Effect.provideService(Kv.Kv, kv),
    Effect.provideService(Scheduler.MaxOpsBeforeYield, ops),
    Effect.exit,
    Effect.forkChild
  )
  for (let i = 0; i < steps; i++) yield* Effect.yieldNow
  const isDone = acquiring.pollUnsafe() !== undefined
  yield* end(scope, acquiring)
  const exit = yield* Fiber.await(acquiring)
  // An acquisition that completed before the interruption lasts until the scope closes.
  yield* Scope.close(scope, Exit.void)
  assert.strictEqual(yield* other.count(KeyRange.prefix("l/")), 0, `ended after ${steps} steps`)
  if (Exit.isSuccess(exit) && Exit.isSuccess(exit.value)) assert.isFalse(yield* exit.value.value)
  return isDone
})

describe("nothing is left however an acquisition and its end interleave", () => {
  for (const [what, acquire] of Object.entries(acquisitions)) {
    for (const [how, end] of Object.entries(ends)) {
      // The fiber yields after this many operations, so each value yields at other points.
      for (const ops of [3, 4, 5]) {
        it.effect(`of ${what} when ${how}, yielding after every ${ops} operations`, () =>
          Effect.gen(function*() {
            let done = 0
            for (let steps = 0; done < 3; steps++) if (yield* acquireAndEnd(acquire, end, ops, steps)) done++
          }))
      }
    }
  }
})

describe("a temporary key", () => {
  it.effect("is removed with its scope after an update, even if its session stays alive", () =>
    Effect.gen(function*() {
      const { kv, other } = yield* clients()
      yield* Effect.provideService(TempKey.make("another"), Kv.Kv, kv)
      const scope = yield* Scope.make()
      yield* Scope.provide(Effect.provideService(TempKey.make("workers/1", { value: "idle" }), Kv.Kv, kv), scope)
      yield* kv.modify("workers/1", () => "busy")
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* other.get("workers/1"), Option.none())
      assert.isTrue(Option.isSome(yield* other.get("another")))
    }))

  it.effect("can be made again by its client while its removal is still in flight", () =>
    Effect.gen(function*() {
      let isBlocked = true
      const { kv, other } = yield* clients((backend) => ({
        ...backend,
        execute: (op) =>
          Effect.suspend(() =>
            isBlocked && isRemoval(op)
              ? KvError.fail(new KvError.Unavailable({ message: "unreachable" }))
              : backend.execute(op)
          )
      }))
      const first = yield* Scope.make()
      yield* Scope.provide(Effect.provideService(TempKey.make("k", { value: "first" }), Kv.Kv, kv), first)
      const closing = yield* Effect.forkChild(Scope.close(first, Exit.void))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* other.get("k"), Option.some("first"))
      const second = yield* Scope.make()
      yield* Scope.provide(Effect.provideService(TempKey.make("k", { value: "second" }), Kv.Kv, kv), second)
      isBlocked = false
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* other.get("k"), Option.some("second"))
      yield* Scope.close(second, Exit.void)
      assert.deepStrictEqual(yield* other.get("k"), Option.none())
    }))
})
