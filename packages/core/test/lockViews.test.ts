/**
 * Locks where the views and the clocks of one client differ: namespaces, fences of a `Kv`'s own, closes by another clock.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
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
  it.effect("an entry whose answer was lost does not remove the holder's key, which another view named", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const backend = yield* store.connect
      let loses = false
      const kv = yield* Kv.make({
        ...backend,
        execute: (op) =>
          Effect.suspend(() =>
            loses && op._tag === "Txn" && op.then.some((inner) => inner._tag === "Put")
              ? KvError.fail(new KvError.Indeterminate({ message: "the test lost the answer" }))
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

  it.effect("fenced does not begin under a lock that was given back", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Kv.make(yield* store.connect)
      const lock = yield* Effect.scoped(on(kv)(DistLock.acquire("l")))
      let begun = false
      const error = yield* Effect.flip(DistLock.fenced(Effect.sync(() => (begun = true)), lock))
      assert.strictEqual(error._tag, "LockLost")
      assert.isFalse(begun)
    }))
})
