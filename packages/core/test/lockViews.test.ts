/**
 * Locks of one client across namespaces, fences of a `Kv` itself, and different clocks.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Session from "@effect-kv/core/Session"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

describe("locks of one client", () => {
  it.effect("an acquisition with a lost response does not remove the holder's key, which has another name in another namespace", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const backend = yield* store.connect
      let loses = false
      const kv = yield* Kv.make({
        ...backend,
        execute: (op) =>
          Effect.suspend(() =>
            loses && op._tag === "Txn" && op.then.some((inner) => inner._tag === "Put")
              ? KvError.fail(new KvError.Indeterminate({ message: "the response was lost" }))
              : backend.execute(op)
          )
      })
      const lock = yield* on(kv)(DistLock.acquire("app/l"))
      loses = true
      const failed = yield* Effect.exit(Effect.scoped(on(Kv.prefixed(kv, "app/"))(DistLock.acquire("l"))))
      assert.isTrue(Exit.isFailure(failed))
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(Option.isSome(yield* kv.getEntry(lock.key)))
      assert.isTrue(yield* lock.isHeld)
    }))

  it.effect("fenced does not start the effect under a lock that was released", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Kv.make(yield* store.connect)
      const lock = yield* Effect.scoped(on(kv)(DistLock.acquire("l")))
      let started = false
      const error = yield* Effect.flip(DistLock.fenced(Effect.sync(() => (started = true)), lock))
      assert.strictEqual(error._tag, "LockLost")
      assert.isFalse(started)
    }))

  it.effect("are released by a client that was made from the backend of a fenced Kv, even if that fence is lost", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const root = yield* Kv.make(yield* store.connect)
      const scope = yield* Scope.make()
      const outer = yield* on(root)(Scope.provide(DistLock.acquire("outer"), scope))
      const inner = yield* Kv.make(backendOf(DistLock.fence(root, outer)))
      const held = yield* Scope.make()
      const lock = yield* on(inner)(Scope.provide(DistLock.acquire("inner"), held))
      yield* root.delete(outer.key)
      assert.strictEqual((yield* Effect.flip(inner.put("k", "v"))).reason._tag, "LockLost")
      yield* Effect.forkChild(Scope.close(held, Exit.void))
      yield* TestClock.adjust("1 second")
      assert.isTrue(Option.isNone(yield* root.getEntry(lock.key)))
    }))

  it.effect("delay the client's close for at most 5 seconds of the client's clock, whatever clock the closing fiber has", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const scope = yield* Scope.make()
      const kv = yield* Scope.provide(Kv.make(yield* store.connect), scope)
      const held = yield* Deferred.make<void>()
      const end = yield* Deferred.make<void>()
      yield* Effect.forkChild(
        on(kv)(DistLock.withDistLock(
          Effect.onInterrupt(
            Effect.andThen(Deferred.succeed(held, undefined), Effect.never),
            () => Deferred.await(end)
          ),
          "l"
        ))
      )
      yield* Deferred.await(held)
      const closing = yield* TestClock.withLive(Effect.forkDetach(Scope.close(scope, Exit.void)))
      yield* Effect.yieldNow
      yield* TestClock.adjust("6 seconds")
      for (let i = 0; i < 50; i++) yield* Effect.yieldNow
      const isClosed = closing.pollUnsafe() !== undefined
      yield* Deferred.succeed(end, undefined)
      assert.isTrue(isClosed)
    }))
})

describe("a session outside the pool", () => {
  it.effect("uses the clock of its client, whatever clock the calling fiber has", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Kv.make(yield* store.connect)
      const session = yield* TestClock.withLive(on(kv)(Session.make({ ttl: "3 seconds" })))
      for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
      assert.isTrue(yield* session.isAlive)
      yield* kv.put("k", "v", { lease: session.lease })
    }))
})
