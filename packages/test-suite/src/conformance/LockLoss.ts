/**
 * How locks are lost, by those who hold them and by those who wait, and what must not be lost by it.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { chapter, newClient, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { contend, contenders, exitOf, failedWith, hold, isFree, on, queue, soon, untilContenders } from "./locking.ts"

/** Holds the lock until it is interrupted, and then writes as its finalizer: without the fence of the lock it has lost. */
const holdAndCleanUp = (kv: Kv.Kv, name: string, options?: DistLock.Options) =>
  contend(
    kv,
    name,
    options,
    () => Effect.ensuring(Effect.never, Fence.unfenced(Effect.orDie(kv.put(`${name}.cleaned-up`, "yes"))))
  )

const leaseOf = (kv: Kv.Kv, name: string) =>
  Effect.map(on(kv)(DistLock.holder(name)), (holder) => Option.getOrThrow(Option.getOrThrow(holder).lease))

const keyOfHolder = (kv: Kv.Kv, name: string) =>
  Effect.map(on(kv)(DistLock.holder(name)), (holder) => Option.getOrThrow(holder).key)

/** The holder is interrupted with `LockLost`, after its finalizers; the next has a larger token. */
const isLostToTheNext = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  name: string,
  holder: Fiber.Fiber<unknown, DistLock.Failure>,
  next: Fiber.Fiber<bigint, DistLock.Failure>
) {
  const error = failedWith(yield* exitOf("the loss", holder), "LockLost")
  assert.strictEqual(error.lock, name)
  assert.strictEqual(yield* textOf(kv, `${name}.cleaned-up`), "yes")
  yield* waitUntil("the next has had it", Effect.sync(() => next.pollUnsafe() !== undefined))
  assert.isTrue((yield* Fiber.join(next)) > error.token)
  yield* isFree(kv, name)
})

export const cases = chapter("losing locks", [
  waitingTest("a holder whose lease is revoked is interrupted, and the next has a larger token", function*(kv) {
    const name = "loss/revoked"
    const holder = yield* holdAndCleanUp(kv, name)
    const next = yield* queue(yield* newClient, name)
    yield* kv.backend.leaseRevoke(yield* leaseOf(kv, name))
    yield* isLostToTheNext(kv, name, holder, next)
  }),

  waitingTest("a holder whose key is deleted is interrupted, and the next has a larger token", function*(kv) {
    const name = "loss/deleted"
    const holder = yield* holdAndCleanUp(kv, name)
    const next = yield* queue(yield* newClient, name)
    yield* kv.delete(yield* keyOfHolder(kv, name))
    yield* isLostToTheNext(kv, name, holder, next)
  }),

  waitingTest("a holder that cannot renew knows before the store gives the lock away", function*(kv) {
    const name = "loss/cut-off"
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const store = yield* Store
    // A renewal takes some time on its way, and so does its answer.
    cut.before = (call) => call.kind === "leaseKeepAlive" ? Effect.sleep("100 millis") : Effect.void
    cut.after = cut.before
    const holder = yield* contend(
      client,
      name,
      { ttl: "3 seconds" },
      (lock) => Effect.onInterrupt(Effect.never, () => Effect.orDie(kv.put(`${name}.at-loss`, lock.key)))
    )
    yield* store.passTime("2 seconds")
    const key = yield* keyOfHolder(kv, name)
    // What it asks from now on is not answered, within its deadlines.
    cut.before = () => Effect.andThen(Effect.sleep("1 second"), faults.unavailable)
    // Whether the key was there at the moment of the loss, the store's history tells.
    failedWith(yield* exitOf("the loss", holder), "LockLost")
    const told = yield* entryOf(kv, `${name}.at-loss`)
    const before = yield* kv.getEntry(key, { revision: told.modRevision })
    assert.isTrue(Option.isSome(before), "the holder knew before the store deleted its key")
    yield* waitUntil("the store ends the lease", Effect.map(contenders(kv, name), (count) => count === 0))
  }),

  waitingTest("a renewal that fails is tried again, and nothing is lost by it", function*(kv) {
    const name = "loss/retry"
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const store = yield* Store
    const held = yield* hold(client, name, { ttl: "3 seconds" })
    let failures = 3
    cut.before = (call) => call.kind === "leaseKeepAlive" && failures-- > 0 ? faults.unavailable : Effect.void
    yield* store.passTime("7 seconds")
    assert.isBelow(failures, 0)
    assert.isTrue(yield* held.lock.isHeld)
    yield* held.release
    yield* isFree(kv, name)
  }),

  waitingTest(
    "a waiter whose session dies fails while the holder still holds, and the next has the lock",
    function*(kv) {
      const name = "loss/waiter"
      const other = yield* newClient
      const held = yield* hold(kv, name)
      const waiter = yield* queue(other, name)
      const next = yield* queue(yield* newClient, name)
      const [first] = yield* on(kv)(DistLock.waiters(name))
      yield* kv.backend.leaseRevoke(Option.getOrThrow(first!.lease))
      failedWith(yield* exitOf("the waiter's failure, within a second", waiter, 5), "LockLost")
      assert.isTrue(yield* held.lock.isHeld)
      assert.strictEqual(yield* contenders(kv, name), 2)
      assert.strictEqual(next.pollUnsafe(), undefined)
      yield* held.release
      assert.isTrue((yield* Fiber.join(next)) > held.lock.token)
      yield* isFree(kv, name)
    }
  ),

  waitingTest("a waiter whose key is deleted together with the holder's is not let in, but the next is", function*(kv) {
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
  }),

  waitingTest("a waiter in the middle that goes lets nobody in", function*(kv) {
    const name = "loss/middle"
    const held = yield* hold(kv, name)
    const middle = yield* queue(yield* newClient, name)
    const last = yield* queue(yield* newClient, name)
    yield* Fiber.interrupt(middle)
    yield* untilContenders(kv, name, 2)
    const second = yield* queue(yield* newClient, name)
    const [first] = yield* on(kv)(DistLock.waiters(name))
    yield* kv.delete(first!.key)
    failedWith(yield* exitOf("the failure of who was last", last), "LockLost")
    assert.strictEqual(second.pollUnsafe(), undefined)
    yield* held.release
    yield* Fiber.join(second)
    yield* isFree(kv, name)
  }),

  waitingTest("a release between reading the queue and waiting is not missed", function*(kv) {
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

  waitingTest("a wait goes on through an outage, and past a compaction", function*(kv) {
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

  waitingTest("the loss is told although history was compacted and the watch has failed", function*(kv) {
    const name = "loss/compacted"
    const store = yield* Store
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    cut.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
    const holder = yield* holdAndCleanUp(client, name)
    yield* store.passTime("1 second")
    const { revision } = yield* kv.put(`${name}.other`, "1")
    yield* store.compact(revision)
    cut.before = () => Effect.void
    yield* store.passTime("1 second")
    const watches = cut.calls.filter((call) => call.kind === "watch").length
    yield* store.passTime("2 seconds")
    assert.strictEqual(cut.calls.filter((call) => call.kind === "watch").length, watches, "one that lives is kept")
    yield* kv.delete(yield* keyOfHolder(kv, name))
    yield* soon("the loss", Effect.sync(() => holder.pollUnsafe() !== undefined))
    failedWith(yield* exitOf("the loss", holder), "LockLost")
  }),

  waitingTest(
    "who succeeds after the lock was lost has not succeeded; whose own failure it is keeps it",
    function*(kv) {
      const name = "loss/too-late"
      for (const outcome of [Exit.succeed(1), Exit.fail("own")]) {
        const barrier = yield* faults.barrier
        const body = yield* contend(
          kv,
          name,
          undefined,
          () => Effect.uninterruptible(Effect.andThen(barrier.stop, outcome))
        )
        yield* kv.delete(yield* keyOfHolder(kv, name))
        yield* barrier.letGo
        const exit = yield* exitOf("the end", body)
        if (Exit.isSuccess(outcome)) failedWith(exit as Exit.Exit<number, DistLock.Failure>, "LockLost")
        else assert.deepStrictEqual(exit, outcome)
      }
      yield* isFree(kv, name)
    }
  ),

  waitingTest("a release that fails masks nothing, and is made good in the background", function*(kv) {
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

  waitingTest("a lost answer to a release, repeated, frees no hold that came after", function*(kv) {
    const name = "loss/repeated"
    const store = yield* Store
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const keep = yield* hold(client, `${name}.keep`)
    const first = yield* hold(client, name)
    let lost = 0
    cut.after = (call) => faults.isRemoval(call) && lost++ === 0 ? faults.lostAnswer : Effect.void
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

  waitingTest("a lock is had although the store has ended the session unnoticed", function*(kv) {
    const name = "loss/unnoticed"
    const kept = yield* hold(kv, `${name}.kept`, { ttl: "1 hour" })
    const lease = yield* leaseOf(kv, `${name}.kept`)
    yield* kv.backend.leaseRevoke(lease)
    const held = yield* hold(kv, name, { ttl: "1 hour" })
    assert.isTrue(yield* held.lock.isHeld)
    assert.notStrictEqual(yield* leaseOf(kv, name), lease)
    yield* soon("the other loss", Effect.map(kept.lock.isHeld, (held) => !held))
  }),

  test("a client that closes tells those who hold its locks", function*(kv) {
    const seen = faults.make()
    const closing = yield* Effect.scoped(Effect.gen(function*() {
      const client = yield* faults.newClientWith(seen)
      const fiber = yield* Effect.forkDetach(
        on(client)(DistLock.withDistLock(Effect.never, "l"))
      )
      yield* untilContenders(kv, "l", 1)
      return fiber
    }))
    assert.strictEqual(yield* kv.count(KeyRange.prefix("l/")), 0)
    yield* soon("the loss", Effect.sync(() => closing.pollUnsafe() !== undefined))
    failedWith(closing.pollUnsafe()!, "LockLost")
    yield* isFree(kv, "l")
  })
])
