/**
 * Loss of locks, by holders and by waiters, and what must survive it.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { chapter, newClient, promptly, Store, waitingTest, waitUntil } from "./Case.ts"
import { textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { contend, contenders, exitOf, failedWith, hold, isFree, on, queue, soon } from "./locking.ts"

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
  )
])
