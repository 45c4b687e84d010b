/**
 * The release of locks: by their scope, in the background, and by a client that is closed.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { chapter, promptly, Store, test, waitingTest } from "./Case.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { contenders, exitOf, failedWith, hold, isFree, on, queue, signalling, soon } from "./locking.ts"

export const cases = chapter("losing locks", [
  waitingTest("a failed release does not change the result, and is retried in the background", function*(kv) {
    const name = "loss/release"
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const store = yield* Store
    for (const outcome of [Exit.succeed(1), Exit.fail("own"), Exit.die("defect")]) {
      let failures = 3
      cut.before = (call) => faults.isRemoval(call) && failures-- > 0 ? faults.unavailable : Effect.void
      const fiber = yield* Effect.forkScoped(on(client)(DistLock.withDistLock(outcome, name)))
      assert.deepStrictEqual(yield* exitOf("the end", fiber), outcome)
      yield* store.passTime("2 seconds")
      yield* isFree(kv, name)
    }
  }),

  waitingTest("a release that is repeated after a lost response releases no later hold", function*(kv) {
    const name = "loss/repeated"
    const store = yield* Store
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const keep = yield* hold(client, `${name}.keep`)
    const first = yield* hold(client, name)
    let lost = 0
    cut.after = (call) => faults.isRemoval(call) && lost++ === 0 ? faults.lostResponse : Effect.void
    const releasing = yield* Effect.forkScoped(first.release)
    yield* soon("the release has been applied", Effect.map(contenders(kv, name), (count) => count === 0))
    const second = yield* hold(client, name)
    yield* store.passTime("2 seconds")
    yield* Fiber.join(releasing)
    assert.isAbove(lost, 1, "the release was repeated")
    assert.isTrue(yield* second.lock.isHeld)
    assert.strictEqual((yield* entryOf(kv, second.lock.key)).createRevision, second.lock.token)
    yield* second.release
    yield* keep.release
    yield* isFree(kv, name)
  }),

  waitingTest(
    "a closing client interrupts holders of its locks, waits for their finalizers and accepts their writes",
    function*(kv) {
      const name = "loss/closing"
      const store = yield* Store
      const barrier = yield* faults.barrier
      yield* Effect.addFinalizer(() => barrier.letGo)
      const scope = yield* Scope.make()
      const seen = faults.make()
      const client = yield* Scope.provide(Kv.make(faults.wrap(seen)(backendOf(kv))), scope)
      const { body, started } = signalling(Effect.gen(function*() {
        const fenced = yield* Kv.Kv
        yield* Effect.ensuring(
          Effect.never,
          Effect.orDie(Effect.andThen(barrier.stop, fenced.put(`${name}.result`, "written by a finalizer")))
        )
      }))
      const holder = yield* Effect.forkDetach(
        on(client)(Effect.exit(DistLock.withDistLock(body, name, { ttl: "2 seconds" })))
      )
      yield* started
      const waiter = yield* Effect.forkDetach(on(client)(Effect.exit(DistLock.withDistLock(Effect.void, name))))
      // The holder entered with one transaction. The waiter sends its second once it knows that it waits.
      const sent = () => seen.calls.filter((call) => call.op?._tag === "Txn").length
      yield* soon("the waiter waits", Effect.sync(() => sent() >= 3))
      const closing = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
      yield* promptly("the holder is interrupted", barrier.reached)
      failedWith(yield* promptly("the waiter's failure", Fiber.join(waiter)), "LockLost")
      const next = yield* queue(kv, name)
      yield* store.passTime("3 seconds")
      assert.isUndefined(closing.pollUnsafe(), "the client waits for the holder")
      assert.isUndefined(next.pollUnsafe(), "the session of the holder is renewed meanwhile")
      const late = yield* Effect.flip(on(client)(DistLock.withDistLock(Effect.void, `${name}.late`)))
      assert.strictEqual(late._tag === "KvError" && late.reason._tag, "Closed")
      yield* barrier.letGo
      failedWith(yield* promptly("the holder's end", Fiber.join(holder)), "LockLost")
      yield* promptly("the client's end", Fiber.join(closing))
      yield* promptly("the next holder", Fiber.join(next))
      assert.strictEqual(yield* textOf(kv, `${name}.result`), "written by a finalizer")
      yield* isFree(kv, name)
    }
  ),

  waitingTest("a closing client waits for a holder for at most 5 seconds", function*(kv) {
    const name = "loss/closing-at-most"
    const store = yield* Store
    const barrier = yield* faults.barrier
    yield* Effect.addFinalizer(() => barrier.letGo)
    const scope = yield* Scope.make()
    const client = yield* Scope.provide(Kv.make(backendOf(kv)), scope)
    const { body, started } = signalling(Effect.ensuring(Effect.never, barrier.stop))
    const holder = yield* Effect.forkDetach(on(client)(Effect.exit(DistLock.withDistLock(body, name))))
    yield* started
    const closing = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
    yield* promptly("the holder is interrupted", barrier.reached)
    yield* store.passTime("4 seconds")
    assert.isUndefined(closing.pollUnsafe())
    yield* store.passTime("1500 millis")
    yield* promptly("the client's end", Fiber.join(closing))
    yield* isFree(kv, name)
    yield* barrier.letGo
    yield* Fiber.join(holder)
  }),

  test("a closing client waits for scopes that are closing, and not for holders that ignore the loss", function*(kv) {
    const name = "loss/closing-scopes"
    const barrier = yield* faults.barrier
    yield* Effect.addFinalizer(() => barrier.letGo)
    const scope = yield* Scope.make()
    const client = yield* Scope.provide(Kv.make(backendOf(kv)), scope)
    const kept = yield* Scope.make()
    yield* on(client)(Scope.provide(DistLock.acquire(`${name}/kept`), kept))
    const ending = yield* Scope.make()
    const lock = yield* on(client)(Scope.provide(DistLock.acquire(`${name}/ending`), ending))
    const fenced = DistLock.fence(client, lock)
    yield* Scope.addFinalizer(ending, Effect.orDie(Effect.andThen(barrier.stop, fenced.put("written", "1"))))
    yield* Effect.forkScoped(Scope.close(ending, Exit.void))
    yield* barrier.reached
    const closing = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
    yield* soon(
      "the client is closing",
      Effect.map(Effect.exit(on(client)(Effect.scoped(DistLock.acquire("x")))), Exit.isFailure)
    )
    assert.isUndefined(closing.pollUnsafe())
    yield* barrier.letGo
    // `kept` is not waited for: no fiber waits for its `lost`.
    yield* promptly("the client's end", Fiber.join(closing))
    assert.strictEqual(yield* textOf(kv, "written"), "1")
    yield* Scope.close(kept, Exit.void)
  }),

  test("a closing client reports the loss of its locks", function*(kv) {
    const seen = faults.make()
    const closing = yield* Effect.scoped(Effect.gen(function*() {
      const client = yield* faults.newClientWith(seen)
      const { body, started } = signalling(Effect.never)
      const fiber = yield* Effect.forkDetach(on(client)(DistLock.withDistLock(body, "l")))
      yield* started
      return fiber
    }))
    assert.strictEqual(yield* kv.count(KeyRange.prefix("l/")), 0)
    yield* soon("the loss", Effect.sync(() => closing.pollUnsafe() !== undefined))
    failedWith(closing.pollUnsafe()!, "LockLost")
    yield* isFree(kv, "l")
  })
])
