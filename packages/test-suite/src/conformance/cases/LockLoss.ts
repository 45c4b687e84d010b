/**
 * How locks are lost, by those who hold them and by those who wait, and what must not be lost by it.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
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

  waitingTest(
    "a client that closes tells those who hold its locks, and waits for their finalizers, whose writes are accepted",
    function*(kv) {
      const name = "loss/closing"
      const store = yield* Store
      const barrier = yield* faults.barrier
      yield* Effect.addFinalizer(() => barrier.letGo)
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(Kv.make(kv.backend), scope)
      const body = Effect.gen(function*() {
        const fenced = yield* Kv.Kv
        yield* Effect.ensuring(
          Effect.never,
          Effect.orDie(Effect.andThen(barrier.stop, fenced.put(`${name}.result`, "written by a finalizer")))
        )
      })
      const holder = yield* Effect.forkDetach(
        on(client)(Effect.exit(DistLock.withDistLock(body, name, { ttl: "2 seconds" })))
      )
      yield* untilContenders(kv, name, 1)
      const waiter = yield* Effect.forkDetach(on(client)(Effect.exit(DistLock.withDistLock(Effect.void, name))))
      yield* untilContenders(kv, name, 2)
      const closing = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
      yield* promptly("the holder is told", barrier.reached)
      failedWith(yield* promptly("the waiter's failure", Fiber.join(waiter)), "LockLost")
      const next = yield* queue(kv, name)
      yield* store.passTime("3 seconds")
      assert.isUndefined(closing.pollUnsafe(), "it is waited for")
      assert.isUndefined(next.pollUnsafe(), "its session is renewed meanwhile")
      const late = yield* Effect.flip(on(client)(DistLock.withDistLock(Effect.void, `${name}.late`)))
      assert.strictEqual(late._tag === "KvError" && late.reason._tag, "Closed")
      yield* barrier.letGo
      failedWith(yield* promptly("the holder's end", Fiber.join(holder)), "LockLost")
      yield* promptly("the client's end", Fiber.join(closing))
      yield* promptly("the next", Fiber.join(next))
      assert.strictEqual(yield* textOf(kv, `${name}.result`), "written by a finalizer")
      yield* isFree(kv, name)
    }
  ),

  waitingTest("a client that closes waits for a holder for 5 seconds at most", function*(kv) {
    const name = "loss/closing-at-most"
    const store = yield* Store
    const barrier = yield* faults.barrier
    yield* Effect.addFinalizer(() => barrier.letGo)
    const scope = yield* Scope.make()
    const client = yield* Scope.provide(Kv.make(kv.backend), scope)
    const body = Effect.ensuring(Effect.never, barrier.stop)
    const holder = yield* Effect.forkDetach(on(client)(Effect.exit(DistLock.withDistLock(body, name))))
    yield* untilContenders(kv, name, 1)
    const closing = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
    yield* promptly("the holder is told", barrier.reached)
    yield* store.passTime("4 seconds")
    assert.isUndefined(closing.pollUnsafe())
    yield* store.passTime("1500 millis")
    yield* promptly("the client's end", Fiber.join(closing))
    yield* isFree(kv, name)
    yield* barrier.letGo
    yield* Fiber.join(holder)
  }),

  test("a client that closes waits for a scope that is closing, and for no one who does not give back", function*(kv) {
    const name = "loss/closing-scopes"
    const barrier = yield* faults.barrier
    yield* Effect.addFinalizer(() => barrier.letGo)
    const scope = yield* Scope.make()
    const client = yield* Scope.provide(Kv.make(kv.backend), scope)
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
      "it has begun",
      Effect.map(Effect.exit(on(client)(Effect.scoped(DistLock.acquire("x")))), Exit.isFailure)
    )
    assert.isUndefined(closing.pollUnsafe())
    yield* barrier.letGo
    // `kept` is not waited for: nobody has asked to be told of its loss.
    yield* promptly("the client's end", Fiber.join(closing))
    assert.strictEqual(yield* textOf(kv, "written"), "1")
    yield* Scope.close(kept, Exit.void)
  }),

  waitingTest("each loss is one warning in the log, and an orderly end is none", function*(kv) {
    const name = "loss/logged"
    const store = yield* Store
    const warnings: Array<Record<string, unknown>> = []
    const capture = Logger.make<unknown, void>(({ fiber, logLevel }) => {
      if (logLevel === "Warn") warnings.push({ ...fiber.getRef(References.CurrentLogAnnotations) })
    })
    yield* Effect.gen(function*() {
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(Kv.make(kv.backend), scope)
      yield* on(client)(DistLock.withDistLock(Effect.void, `${name}.orderly`))
      const kept = yield* hold(client, `${name}.kept`, { ttl: "1 hour" })
      const deleted = yield* hold(client, `${name}.deleted`, { ttl: "1 hour" })
      yield* store.passTime("500 millis")
      assert.deepStrictEqual(warnings, [])
      yield* kv.delete(deleted.lock.key)
      yield* promptly("the loss", Effect.flip(deleted.lock.lost))
      yield* waitUntil("it is logged", Effect.sync(() => warnings.length > 0))
      const of = (lock: DistLock.Lock) => ({ lock: lock.name, token: `${lock.token}` })
      assert.deepStrictEqual(warnings, [{ ...of(deleted.lock), how: "its key was deleted" }])
      yield* deleted.release
      const lease = yield* leaseOf(kv, kept.lock.name)
      yield* kv.backend.leaseRevoke(lease)
      yield* promptly("the other loss", Effect.flip(kept.lock.lost))
      yield* store.passTime("2 seconds")
      assert.strictEqual(warnings.length, 2)
      assert.deepInclude(warnings[1], { ...of(kept.lock), lease: `${lease}`, how: "the store has ended its lease" })
      yield* kept.release
      yield* hold(client, `${name}.closed`)
      yield* Scope.close(scope, Exit.void)
      yield* store.passTime("2 seconds")
      assert.strictEqual(warnings.length, 2)
    }).pipe(Effect.provide(Logger.layer([capture])))
  }),

  waitingTest(
    "a loss that a fenced write finds is one warning in the log, although it interrupts the writer",
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
          const holding = on(kv)(DistLock.withLock(name, undefined, (lock) =>
            Effect.gen(function*() {
              lost.push(`${lock.token}`)
              yield* Fence.unfenced(kv.delete(lock.key))
              yield* body()
            })))
          failedWith(yield* promptly("the loss", Effect.exit(holding)), "LockLost")
        }
        yield* waitUntil("all are logged", Effect.sync(() => warned.length >= bodies.length))
        yield* store.passTime("2 seconds")
        assert.sameMembers(warned, lost)
      }).pipe(Effect.provide(Logger.layer([capture])))
    }
  ),

  waitingTest("a time-out says so if the store was away, and how long it was in whole milliseconds", function*(kv) {
    const name = "loss/away"
    const held = yield* hold(kv, name)
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    yield* hold(client, `${name}.keeps-the-session`)
    const attempt = Effect.forkScoped(
      on(client)(Effect.flip(DistLock.withDistLock(Effect.void, name, { acquireTimeout: "2 seconds" })))
    )
    const timeoutOf = Effect.fnUntraced(function*(fiber: Fiber.Fiber<unknown, unknown>) {
      yield* waitUntil("the time-out", Effect.sync(() => fiber.pollUnsafe() !== undefined))
      const error = yield* Fiber.join(fiber)
      assert.isTrue(error instanceof LockError.LockTimeout)
      const timeout = error as LockError.LockTimeout
      assert.isTrue(Number.isInteger(timeout.waitedMillis))
      // Node's timers may fire a millisecond early.
      assert.isAtLeast(timeout.waitedMillis, 1999)
      return timeout
    })
    assert.isUndefined((yield* timeoutOf(yield* attempt)).reason)
    // While it waits.
    cut.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
    const waiting = yield* timeoutOf(yield* attempt)
    assert.strictEqual(waiting.reason?._tag, "Unavailable")
    assert.isTrue(waiting.token > 0n)
    // Before anything was answered.
    cut.before = (call) => faults.isEntry(call) ? Effect.never : Effect.void
    const silent = yield* timeoutOf(yield* attempt)
    assert.strictEqual(silent.reason?._tag, "Unavailable")
    assert.include(silent.message, "out of reach")
    cut.before = () => Effect.void
    yield* held.release
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
