/**
 * Loss of locks, by holders and by waiters, and what must survive it.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as LockError from "@effect-kv/core/LockError"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { chapter, newClient, promptly, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import {
  contend,
  contenders,
  exitOf,
  failedWith,
  hold,
  isFree,
  on,
  queue,
  signalling,
  soon,
  untilContenders
} from "./locking.ts"

/** Holds the lock until it is interrupted, then writes in a finalizer, without the fence of the lost lock. */
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

/** The holder fails with `LockLost` after its finalizers; the next holder has a larger token. */
const isLostToTheNext = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  name: string,
  holder: Fiber.Fiber<unknown, DistLock.LockFailure>,
  next: Fiber.Fiber<bigint, DistLock.LockFailure>
) {
  const error = failedWith(yield* exitOf("the loss", holder), "LockLost")
  assert.strictEqual(error.lock, name)
  assert.strictEqual(yield* textOf(kv, `${name}.cleaned-up`), "yes")
  yield* waitUntil("the next waiter has acquired the lock", Effect.sync(() => next.pollUnsafe() !== undefined))
  assert.isTrue((yield* Fiber.join(next)) > error.token)
  yield* isFree(kv, name)
})

export const cases = chapter("losing locks", [
  waitingTest("a holder whose lease is revoked is interrupted, and the next has a larger token", function*(kv) {
    const name = "loss/revoked"
    const holder = yield* holdAndCleanUp(kv, name)
    const next = yield* queue(yield* newClient, name)
    yield* backendOf(kv).leaseRevoke(yield* leaseOf(kv, name))
    yield* isLostToTheNext(kv, name, holder, next)
  }),

  waitingTest("a holder whose key is deleted is interrupted, and the next has a larger token", function*(kv) {
    const name = "loss/deleted"
    const holder = yield* holdAndCleanUp(kv, name)
    const next = yield* queue(yield* newClient, name)
    yield* kv.delete(yield* keyOfHolder(kv, name))
    yield* isLostToTheNext(kv, name, holder, next)
  }),

  waitingTest("a holder that cannot renew learns of the loss before the store deletes its key", function*(kv) {
    const name = "loss/cut-off"
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    const store = yield* Store
    // The request and the response of a renewal both take time.
    cut.before = (call) => call.kind === "leaseKeepAlive" ? Effect.sleep("100 millis") : Effect.void
    cut.after = cut.before
    const holder = yield* contend(
      client,
      name,
      { ttl: "3 seconds" },
      // One transaction looks and notes: a read of the history could be compacted by a case that runs concurrently.
      (lock) =>
        Effect.onInterrupt(Effect.never, () =>
          Fence.unfenced(Effect.orDie(kv.txn({
            if: [Compare.exists(lock.key)],
            then: [Op.put(`${name}.at-loss`, "exists")],
            else: [Op.put(`${name}.at-loss`, "deleted")]
          }))))
    )
    yield* store.passTime("2 seconds")
    // From now on its requests get no response before their deadlines.
    cut.before = () => Effect.andThen(Effect.sleep("1 second"), faults.unavailable)
    failedWith(yield* exitOf("the loss", holder), "LockLost")
    assert.strictEqual(yield* textOf(kv, `${name}.at-loss`), "exists", "the key at the moment of the loss")
    yield* waitUntil("the store ends the lease", Effect.map(contenders(kv, name), (count) => count === 0))
  }),

  waitingTest("a failed renewal is retried, and the lock is kept", function*(kv) {
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

  waitingTest("a loss is noticed even if the history was compacted and the watch failed", function*(kv) {
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
    assert.strictEqual(
      cut.calls.filter((call) => call.kind === "watch").length,
      watches,
      "a watch that still works is kept"
    )
    yield* kv.delete(yield* keyOfHolder(kv, name))
    yield* soon("the loss", Effect.sync(() => holder.pollUnsafe() !== undefined))
    failedWith(yield* exitOf("the loss", holder), "LockLost")
  }),

  waitingTest(
    "a body that succeeds after the loss fails with LockLost; its own failure is kept",
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
        if (Exit.isSuccess(outcome)) failedWith(exit as Exit.Exit<number, DistLock.LockFailure>, "LockLost")
        else assert.deepStrictEqual(exit, outcome)
      }
      yield* isFree(kv, name)
    }
  ),

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

  waitingTest("a lock is acquired even if the store has ended the session unnoticed", function*(kv) {
    const name = "loss/unnoticed"
    const kept = yield* hold(kv, `${name}.kept`, { ttl: "1 hour" })
    const lease = yield* leaseOf(kv, `${name}.kept`)
    yield* backendOf(kv).leaseRevoke(lease)
    const held = yield* hold(kv, name, { ttl: "1 hour" })
    assert.isTrue(yield* held.lock.isHeld)
    assert.notStrictEqual(yield* leaseOf(kv, name), lease)
    yield* soon("the second loss", Effect.map(kept.lock.isHeld, (held) => !held))
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

  waitingTest("each lost lock is logged as one warning, and a released lock as none", function*(kv) {
    const name = "loss/logged"
    const store = yield* Store
    const warnings: Array<Record<string, unknown>> = []
    const capture = Logger.make<unknown, void>(({ fiber, logLevel }) => {
      if (logLevel === "Warn") warnings.push({ ...fiber.getRef(References.CurrentLogAnnotations) })
    })
    yield* Effect.gen(function*() {
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(Kv.make(backendOf(kv)), scope)
      yield* on(client)(DistLock.withDistLock(Effect.void, `${name}.orderly`))
      const kept = yield* hold(client, `${name}.kept`, { ttl: "1 hour" })
      const deleted = yield* hold(client, `${name}.deleted`, { ttl: "1 hour" })
      yield* store.passTime("500 millis")
      assert.deepStrictEqual(warnings, [])
      yield* kv.delete(deleted.lock.key)
      yield* promptly("the loss", Effect.flip(deleted.lock.lost))
      yield* waitUntil("the loss is logged", Effect.sync(() => warnings.length > 0))
      const of = (lock: DistLock.Lock) => ({ lock: lock.name, token: `${lock.token}` })
      assert.deepStrictEqual(warnings, [{ ...of(deleted.lock), reason: "its key was deleted" }])
      yield* deleted.release
      const lease = yield* leaseOf(kv, kept.lock.name)
      yield* backendOf(kv).leaseRevoke(lease)
      yield* promptly("the second loss", Effect.flip(kept.lock.lost))
      yield* store.passTime("2 seconds")
      assert.strictEqual(warnings.length, 2)
      assert.deepInclude(warnings[1], {
        ...of(kept.lock),
        lease: lease.toString(16),
        reason: "the store has ended its lease"
      })
      yield* kept.release
      yield* hold(client, `${name}.closed`)
      yield* Scope.close(scope, Exit.void)
      yield* store.passTime("2 seconds")
      assert.strictEqual(warnings.length, 2)
    }).pipe(Effect.provide(Logger.layer([capture])))
  }),

  waitingTest(
    "a loss found by a fenced write is logged as one warning, even though it interrupts the writer",
    function*(kv) {
      const name = "loss/logged-write"
      const store = yield* Store
      const warned: Array<unknown> = []
      const capture = Logger.make<unknown, void>(({ fiber, logLevel }) => {
        if (logLevel === "Warn") warned.push(fiber.getRef(References.CurrentLogAnnotations)["token"])
      })
      const write = (key: string) => kv.put(`${name}.${key}`, "stale")
      const bodies: ReadonlyArray<() => Effect.Effect<unknown, KvError.KvError>> = [
        () => write("a"),
        () => Effect.andThen(Effect.ignore(write("a")), Effect.never),
        () => Effect.forEach(["a", "b", "c"], write, { concurrency: "unbounded" }),
        () => Effect.uninterruptible(write("a"))
      ]
      yield* Effect.gen(function*() {
        const lost: Array<string> = []
        for (const body of bodies) {
          const holding = on(kv)(DistLock.use(name, (lock) =>
            Effect.gen(function*() {
              lost.push(`${lock.token}`)
              yield* Fence.unfenced(kv.delete(lock.key))
              yield* body()
            })))
          failedWith(yield* promptly("the loss", Effect.exit(holding)), "LockLost")
        }
        yield* waitUntil("all losses are logged", Effect.sync(() => warned.length >= bodies.length))
        yield* store.passTime("2 seconds")
        assert.sameMembers(warned, lost)
      }).pipe(Effect.provide(Logger.layer([capture])))
    }
  ),

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
