/**
 * Waiters for a lock: a wait survives outages and compaction, and ends with the loss of the waiter.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as LockError from "@effect-kv/core/LockError"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { chapter, newClient, Store, waitingTest, waitUntil } from "./Case.ts"
import * as faults from "./faults.ts"
import { contend, contenders, exitOf, failedWith, hold, isFree, on, queue, soon, untilContenders } from "./locking.ts"

export const cases = chapter("losing locks", [
  waitingTest(
    "a waiter whose session is lost fails while the lock is held, and the next waiter acquires it",
    function*(kv) {
      const name = "loss/waiter"
      const other = yield* newClient
      const held = yield* hold(kv, name)
      const waiter = yield* queue(other, name)
      const next = yield* queue(yield* newClient, name)
      const [first] = yield* on(kv)(DistLock.waiters(name))
      yield* backendOf(kv).leaseRevoke(Option.getOrThrow(first!.lease))
      failedWith(yield* exitOf("the waiter's failure, within a second", waiter, 5), "LockLost")
      assert.isTrue(yield* held.lock.isHeld)
      assert.strictEqual(yield* contenders(kv, name), 2)
      assert.strictEqual(next.pollUnsafe(), undefined)
      yield* held.release
      assert.isTrue((yield* Fiber.join(next)) > held.lock.token)
      yield* isFree(kv, name)
    }
  ),

  waitingTest(
    "a waiter whose key is deleted together with the holder's fails, and the next acquires the lock",
    function*(kv) {
      const name = "loss/together"
      const held = yield* hold(kv, name)
      let letIn = false
      const waiter = yield* contend(yield* newClient, name, undefined, () => Effect.sync(() => letIn = true))
      const [first] = yield* on(kv)(DistLock.waiters(name))
      const next = yield* queue(yield* newClient, name)
      yield* kv.txn({ then: [Op.delete(held.lock.key), Op.delete(first!.key)] })
      failedWith(yield* exitOf("the waiter's failure", waiter), "LockLost")
      assert.isFalse(letIn)
      assert.isTrue((yield* Fiber.join(next)) > held.lock.token)
      yield* held.release
      yield* isFree(kv, name)
    }
  ),

  waitingTest("a waiter that leaves the middle of the queue does not let the next one in", function*(kv) {
    const name = "loss/middle"
    const held = yield* hold(kv, name)
    const middle = yield* queue(yield* newClient, name)
    const last = yield* queue(yield* newClient, name)
    yield* Fiber.interrupt(middle)
    yield* untilContenders(kv, name, 2)
    const second = yield* queue(yield* newClient, name)
    const [first] = yield* on(kv)(DistLock.waiters(name))
    yield* kv.delete(first!.key)
    failedWith(yield* exitOf("the failure of the last waiter", last), "LockLost")
    assert.strictEqual(second.pollUnsafe(), undefined)
    yield* held.release
    yield* Fiber.join(second)
    yield* isFree(kv, name)
  }),

  waitingTest("a release between the read of the queue and the watch is not missed", function*(kv) {
    const name = "loss/between"
    for (const when of ["before", "after"] as const) {
      const held = yield* hold(kv, name)
      const slow = faults.make()
      const client = yield* faults.newClientWith(slow)
      const barrier = yield* faults.barrier
      slow[when] = (call) => call.kind === "watch" ? barrier.stop : Effect.void
      const waiter = yield* queue(client, name)
      yield* barrier.reached
      yield* held.release
      yield* barrier.letGo
      yield* soon("the waiter is let in", Effect.sync(() => waiter.pollUnsafe() !== undefined))
      yield* Fiber.join(waiter)
    }
    yield* isFree(kv, name)
  }),

  waitingTest("a wait survives an outage and a compaction", function*(kv) {
    const name = "loss/outage"
    const store = yield* Store
    const held = yield* hold(kv, name)
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    cut.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
    const waiter = yield* queue(client, name)
    yield* store.passTime("1 second")
    const { revision } = yield* kv.put(`${name}.other`, "1")
    yield* store.compact(revision)
    cut.before = () => Effect.void
    yield* store.passTime("1 second")
    yield* held.release
    yield* Fiber.join(waiter)
    yield* isFree(kv, name)
  }),

  waitingTest("LockTimeout reports an unreachable store, and the wait in whole milliseconds", function*(kv) {
    const name = "loss/away"
    const held = yield* hold(kv, name)
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    yield* hold(client, `${name}.keeps-the-session`)
    const attempt = Effect.forkScoped(
      on(client)(Effect.flip(DistLock.withDistLock(Effect.void, name, { acquireTimeout: "2 seconds" })))
    )
    const timeoutOf = Effect.fnUntraced(function*(fiber: Fiber.Fiber<unknown, unknown>) {
      yield* waitUntil("the timeout", Effect.sync(() => fiber.pollUnsafe() !== undefined))
      const error = yield* Fiber.join(fiber)
      assert.isTrue(error instanceof LockError.LockTimeout)
      const timeout = error as LockError.LockTimeout
      assert.isTrue(Number.isInteger(timeout.waitedMillis))
      // Node's timers may fire up to one millisecond early.
      assert.isAtLeast(timeout.waitedMillis, 1999)
      return timeout
    })
    assert.deepStrictEqual((yield* timeoutOf(yield* attempt)).storeFailure, Option.none())
    // Unreachable while it waits.
    cut.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
    const waiting = yield* timeoutOf(yield* attempt)
    assert.strictEqual(Option.getOrThrow(waiting.storeFailure)._tag, "Unavailable")
    assert.isTrue(Option.getOrThrow(waiting.token) > 0n)
    // Unreachable before the first response.
    cut.before = (call) => faults.isEntry(call) ? Effect.never : Effect.void
    const silent = yield* timeoutOf(yield* attempt)
    assert.strictEqual(Option.getOrThrow(silent.storeFailure)._tag, "Unavailable")
    assert.include(silent.message, "could not be reached")
    cut.before = () => Effect.void
    yield* held.release
  })
])
