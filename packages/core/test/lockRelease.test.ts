/**
 * Giving back what was held: when the program fails in odd places, and when the store's answers do.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import type * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

const indeterminate = KvError.fail(new KvError.Indeterminate({ message: "the answer was lost" }))

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
  it.effect("is given back when what is to be done under it throws before it begins", () =>
    Effect.gen(function*() {
      const { kv, other } = yield* clients()
      const exit = yield* DistLock.withLock("l", undefined, (): Effect.Effect<void> => {
        throw new Error("boom")
      }).pipe(Effect.provideService(Kv.Kv, kv), Effect.exit)
      assert.isTrue(Exit.hasDies(exit))
      assert.isTrue(yield* isFree(other, "l"))
    }))

  it.effect("was held to the end when its removal was made and the answer to it lost", () =>
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

  it.effect("is known to be lost when its key is deleted, though watching was refused once", () =>
    Effect.gen(function*() {
      let refused = 0
      const { kv, other } = yield* clients((backend) => ({
        ...backend,
        watch: (request) =>
          refused++ === 0
            ? KvError.fail(new KvError.Unauthenticated({ message: "the token was refused" }))
            : backend.watch(request)
      }))
      const fiber = yield* DistLock.withDistLock(Effect.never, "l").pipe(
        Effect.provideService(Kv.Kv, kv),
        Effect.flip,
        Effect.forkChild
      )
      yield* TestClock.adjust("1 second")
      yield* other.delete(KeyRange.prefix("l/"))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "LockLost")
    }))
})

describe("a temporary key", () => {
  it.effect("that its owner has updated goes with its scope, though its session lives on", () =>
    Effect.gen(function*() {
      const { kv, other } = yield* clients()
      yield* kv.tempKey("another")
      const scope = yield* Scope.make()
      yield* Scope.provide(kv.tempKey("workers/1", { value: "idle" }), scope)
      yield* kv.modify("workers/1", () => "busy")
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* other.get("workers/1"), Option.none())
      assert.isTrue(Option.isSome(yield* other.get("another")))
    }))

  it.effect("goes with the last of two of its name", () =>
    Effect.gen(function*() {
      const { kv, other } = yield* clients()
      const first = yield* Scope.make()
      const second = yield* Scope.make()
      yield* Scope.provide(kv.tempKey("k", { value: "first" }), first)
      yield* Scope.provide(kv.tempKey("k", { value: "second" }), second)
      yield* Scope.close(first, Exit.void)
      assert.deepStrictEqual(yield* other.get("k"), Option.some("second"))
      yield* Scope.close(second, Exit.void)
      assert.deepStrictEqual(yield* other.get("k"), Option.none())
    }))
})
