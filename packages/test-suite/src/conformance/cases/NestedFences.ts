/**
 * Fences of several locks, clients and namespaces; unfenced writes; and how a body under a lost lock ends.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Lease from "@effect-kv/core/Lease"
import * as Op from "@effect-kv/core/Op"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { chapter, newClient, promptly, reasonOf, rejects, test } from "./Case.ts"
import { textOf } from "./entries.ts"
import { blindClient, isFenced, isNotFenced, isRejectedBy, staleHolder, tryUnder } from "./fences.ts"
import { contenders, errorOf, failedWith, hold, isFree, on, soon } from "./locking.ts"

/** `count` lock names. */
const names = (count: number, prefix = "n"): NonEmptyReadonlyArray<string> => [
  `${prefix}0`,
  ...Array.from({ length: count - 1 }, (_, i) => `${prefix}${i + 1}`)
]

const invalidMessage = (exit: Exit.Exit<unknown, unknown>): string => {
  const error = errorOf(exit)
  if (!KvError.isKvError(error) || error.reason._tag !== "InvalidRequest") assert.fail(String(exit))
  return error.message
}

/** An error of the program that wraps another error. */
class JobFailed {
  readonly _tag = "JobFailed"
  readonly cause: unknown
  constructor(cause: unknown) {
    this.cause = cause
  }
}

export const cases = chapter("nested fences", [
  test("a lock of a namespace fences the writes of its client in all namespaces", function*(kv) {
    const client = yield* blindClient
    const views: Readonly<Record<string, Kv.Kv>> = {
      root: client,
      "its own": Kv.prefixed(client, "app/"),
      "another one": Kv.prefixed(client, "other/"),
      "one within": Kv.prefixed(Kv.prefixed(client, "app/"), "deep/"),
      "a mapped one": Kv.mapBackend(Kv.prefixed(client, "app/"), (backend) => ({ ...backend }))
    }
    const app = Kv.prefixed(client, "app/")
    for (const [what, view] of Object.entries(views)) {
      const tried = yield* tryUnder(kv, app, "l", (value) => view.put("k", value))
      assert.isTrue(Exit.isSuccess(tried.held), `${what}: ${String(tried.held)}`)
      isRejectedBy(tried.token, tried.lost, what)
      assert.strictEqual(yield* kv.count(KeyRange.all), 0, what)
    }
  }),

  test("of nested locks in any namespaces, only the one that was lost reports the loss", function*(kv) {
    for (const lost of ["outer", "inner"] as const) {
      const client = yield* blindClient
      const tokens = { outer: 0n, inner: 0n }
      const held = { outer: false, inner: false }
      let write: Exit.Exit<unknown, unknown> = Exit.void
      const inner = DistLock.use("l", (inner) =>
        Effect.uninterruptible(Effect.gen(function*() {
          tokens.inner = inner.token
          yield* client.put("k", "1")
          yield* kv.delete(lost === "outer" ? outerKey : `other/${inner.key}`)
          write = yield* Effect.exit(client.put("k", "2"))
          held.inner = yield* inner.isHeld
        }))).pipe(on(Kv.prefixed(client, "other/")), Effect.exit)
      let outerKey = ""
      let innerExit: Exit.Exit<unknown, DistLock.LockFailure<undefined, undefined>> = Exit.void
      const outerExit = yield* DistLock.use("l", (outer) =>
        Effect.uninterruptible(Effect.gen(function*() {
          tokens.outer = outer.token
          outerKey = `app/${outer.key}`
          innerExit = yield* inner
          held.outer = yield* outer.isHeld
        }))).pipe(on(Kv.prefixed(client, "app/")), Effect.exit)
      isRejectedBy(tokens[lost], write, lost)
      assert.deepStrictEqual(held, { outer: lost === "inner", inner: lost === "outer" }, lost)
      assert.strictEqual(Exit.isSuccess(innerExit), lost === "outer", String(innerExit))
      assert.strictEqual(Exit.isSuccess(outerExit), lost === "inner", String(outerExit))
      failedWith(lost === "outer" ? outerExit : innerExit, "LockLost")
      assert.strictEqual(yield* textOf(kv, "k"), "1")
      yield* isFree(kv, "app/l")
      yield* isFree(kv, "other/l")
    }
  }),

  test("another client of the store is fenced only through a Kv that was fenced explicitly", function*(kv) {
    const client = yield* blindClient
    const other = yield* newClient
    yield* isNotFenced(kv, client, "l", (value) => other.put("k", value), "another client")
    yield* kv.delete("k")
    const { lock } = yield* staleHolder(kv, "stale")
    const reason = yield* rejects(kv, "LockLost", DistLock.fence(other, lock).put("k", "stale"))
    assert.strictEqual(reason._tag === "LockLost" && reason.token, lock.token)
    assert.isFalse(yield* lock.isHeld, "the lock reports the loss")
    const app = yield* hold(Kv.prefixed(client, "app/"), "l")
    const fenced = DistLock.fence(Kv.prefixed(other, "app/"), app.lock)
    yield* fenced.put("k", "1")
    yield* kv.delete(`app/${app.lock.key}`)
    yield* rejects(kv, "LockLost", fenced.put("k", "2"))
    assert.isFalse(yield* app.lock.isHeld, "the lock reports the loss")
    yield* app.release
    // In another store the key is missing because it never existed there.
    const held = yield* hold(client, "here")
    yield* rejects(kv, "LockLost", DistLock.fence(Kv.prefixed(other, "elsewhere/"), held.lock).put("k", "wrong"))
    assert.isTrue(yield* held.lock.isHeld, "the lock is still held")
    yield* held.release
  }),

  test("fenced: false adds no fence and removes none", function*(kv) {
    const client = yield* blindClient
    const put = (value: string) => client.put("k", value)
    yield* isNotFenced(kv, client, "alone", put, "alone", { fenced: false })
    yield* kv.delete("k")
    const within = (value: string) => DistLock.withDistLock(put(value), "within", { fenced: false }).pipe(on(client))
    yield* isFenced(kv, client, "outer", within, "within a fenced lock")
    const around = DistLock.withDistLock(isFenced(kv, client, "inner", put, "around"), "around", { fenced: false })
    failedWith(yield* Effect.exit(on(client)(around)), "LockLost")
  }),

  test("unfenced removes the fences of all locks; a lock acquired within has its own fence", function*(kv) {
    const client = yield* blindClient
    const unfenced = (value: string) => Fence.unfenced(client.put("k", value))
    yield* isNotFenced(
      kv,
      client,
      "outer",
      (value) => DistLock.withDistLock(unfenced(value), `inner ${value}`).pipe(on(client)),
      "within two locks"
    )
    yield* kv.delete("k")
    const within = isFenced(kv, client, "inner", (value) => client.put("k", value), "a lock within")
    yield* on(client)(DistLock.withDistLock(Fence.unfenced(within), "around")).pipe(Effect.exit)
    assert.isUndefined(yield* textOf(kv, "k"))
  }),

  test("a temporary key of a stale holder overwrites and deletes nothing", function*(kv) {
    const { client, lock } = yield* staleHolder(kv, "l")
    yield* kv.put("k", "theirs")
    const exit = yield* Effect.scoped(on(client)(TempKey.make("k", { value: "stale", ttl: "1 hour" }))).pipe(
      DistLock.fenced(lock),
      Effect.exit
    )
    failedWith(exit, "LockLost")
    assert.strictEqual(yield* textOf(kv, "k"), "theirs")
  }),

  test("under a lost lock a temporary key is not re-created, and an existing one is removed", function*(kv) {
    const client = yield* blindClient
    const scope = yield* Scope.fork(yield* Effect.scope)
    let lost: Effect.Effect<unknown, unknown> = Effect.void
    const exit = yield* DistLock.use("l", (lock) =>
      Effect.uninterruptible(Effect.gen(function*() {
        lost = (yield* Scope.provide(on(client)(TempKey.make("k", { value: "mine" })), scope)).lost
        yield* Scope.provide(on(client)(TempKey.make("removed")), scope)
        yield* kv.delete(lock.key)
        yield* kv.delete("k")
        yield* promptly("the end of the temporary key", Effect.exit(lost))
      }))).pipe(on(client), Effect.exit)
    failedWith(exit, "LockLost")
    assert.isUndefined(yield* textOf(kv, "k"))
    assert.isDefined(yield* textOf(kv, "removed"))
    yield* Scope.close(scope, Exit.void)
    yield* soon("the removal", Effect.map(kv.get("removed"), Option.isNone))
  }),

  test("the internal requests of an inner lock continue when the outer lock is lost", function*(kv) {
    const client = yield* blindClient
    let within = 0
    const inner = DistLock.withDistLock(
      Effect.gen(function*() {
        within = yield* contenders(kv, "inner")
        return yield* client.put("k", "stale")
      }),
      "inner",
      // Uses a session that is opened under the lost lock.
      { ttl: "30 minutes" }
    ).pipe(on(client))
    const exit = yield* DistLock.use(
      "outer",
      (lock) => Effect.uninterruptible(Effect.andThen(kv.delete(lock.key), inner))
    ).pipe(on(client), Effect.exit)
    failedWith(exit, "LockLost")
    assert.strictEqual(within, 1, "the inner lock is acquired, even though the outer one is lost")
    yield* isFree(kv, "inner")
    assert.isUndefined(yield* textOf(kv, "k"))
  }),

  test("a holder that knows of the loss of its lock cannot revoke a lease", function*(kv) {
    const client = yield* newClient
    const { lock, release } = yield* hold(client, "l")
    const { id } = yield* on(client)(Lease.grant({ ttl: "1 hour" }))
    yield* kv.put("k", "1", { lease: id })
    yield* release
    failedWith(yield* Effect.exit(on(client)(DistLock.fenced(Lease.revoke(id), lock))), "LockLost")
    yield* rejects(kv, "LockLost", backendOf(DistLock.fence(client, lock)).leaseRevoke(id))
    assert.strictEqual(yield* textOf(kv, "k"), "1")
    yield* backendOf(client).leaseRevoke(id)
  }),

  test("a client made of another client's backend is fenced by the locks of both, and releases its own", function*(kv) {
    const client = yield* blindClient
    const second = yield* Kv.make(backendOf(client))
    yield* isFenced(kv, client, "first", (value) => second.put("k", value), "the first one's lock")
    yield* isFenced(kv, second, "second", (value) => second.put("k", value), "its own lock")
    let held = 0
    const inner = DistLock.withDistLock(
      Effect.flatMap(contenders(kv, "inner"), (count) => {
        held = count
        return second.put("k", "stale")
      }),
      "inner"
    ).pipe(on(second))
    const exit = yield* DistLock.use(
      "outer",
      (lock) => Effect.uninterruptible(Effect.andThen(kv.delete(lock.key), inner))
    ).pipe(on(client), Effect.exit)
    failedWith(exit, "LockLost")
    assert.strictEqual(held, 1)
    yield* isFree(kv, "inner")
  }),

  test(
    "more locks than fit in a transaction are an InvalidRequest before any is acquired, nested ones too",
    function*(kv) {
      const work = kv.testAndSet("k", Option.none(), "1")
      assert.isTrue(yield* on(kv)(DistLock.withDistLock(work, names(127))))
      let begun = 0
      const beginning = Effect.sync(() => begun++)
      for (const count of [128, 130]) {
        const exit = yield* Effect.exit(on(kv)(DistLock.withDistLock(beginning, names(count))))
        assert.match(invalidMessage(exit), new RegExp(`${count} locks are too many, 127 are allowed`))
      }
      const nested = <A, E>(work: Effect.Effect<A, E>) => DistLock.withDistLock(work, names(28, "inner"))
      invalidMessage(yield* on(kv)(DistLock.withDistLock(Effect.exit(nested(beginning)), names(100))))
      assert.strictEqual(begun, 0, "no lock was acquired")
      assert.isFalse(yield* on(kv)(DistLock.withDistLock(Fence.unfenced(nested(work)), names(100))))
      assert.isFalse(yield* on(kv)(DistLock.withDistLock(work, names(130), { fenced: false })))
      const acquired = Effect.flatMap(DistLock.acquire(names(128)), (lock) => Effect.exit(DistLock.fenced(work, lock)))
      invalidMessage(yield* on(kv)(Effect.scoped(acquired)))
      assert.strictEqual(yield* kv.count(KeyRange.prefix("n")), 0)
      assert.strictEqual(yield* kv.count(KeyRange.prefix("inner")), 0)
    }
  ),

  test("acquiring a lock again in the fiber that holds it fails at once; a child fiber waits for it", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    const again: ReadonlyArray<Effect.Effect<unknown, unknown, Scope.Scope>> = [
      on(kv)(DistLock.withDistLock(Effect.void, "app/l")),
      on(app)(DistLock.withDistLock(Effect.void, ["a", "l"])),
      on(app)(DistLock.acquire("l")),
      on(app)(Fence.unfenced(DistLock.withDistLock(Effect.void, "l")))
    ]
    for (const fenced of [true, false]) {
      const waiter = yield* DistLock.withDistLock(
        Effect.gen(function*() {
          for (const request of again) invalidMessage(yield* Effect.exit(request))
          const waiter = yield* Effect.forkDetach(on(app)(DistLock.withDistLock(Effect.succeed("waited"), "l")))
          yield* soon("the waiter", Effect.map(contenders(app, "l"), (count) => count === 2))
          assert.isTrue(Option.isNone(yield* on(app)(Effect.scoped(DistLock.tryAcquire("l")))))
          return waiter
        }),
        "l",
        { fenced }
      ).pipe(on(app))
      assert.strictEqual(yield* promptly("its turn", Fiber.join(waiter)), "waited")
    }
    yield* isFree(kv, "app/l")
  }),

  test(
    "a rejected write ends the body with LockLost, also if it is wrapped, a defect, ignored or followed by failures",
    function*(kv) {
      const ends: Readonly<
        Record<string, (write: Effect.Effect<unknown, KvError.KvError>) => Effect.Effect<unknown, unknown>>
      > = {
        failed: (write) => write,
        wrapped: (write) => Effect.mapError(write, (error) => new JobFailed(error)),
        died: Effect.orDie,
        ignored: (write) => Effect.ignore(write),
        caught: (write) => Effect.catch(write, () => Effect.never),
        cleaned: (write) => Effect.ensuring(write, Effect.die("clean-up"))
      }
      for (const [what, end] of Object.entries(ends)) {
        const client = yield* blindClient
        const exit = yield* DistLock.use(
          "l",
          (lock) => Effect.andThen(kv.delete(lock.key), end(client.put("k", "stale")))
        ).pipe(on(client), Effect.exit)
        const reasons = Exit.isFailure(exit) ? exit.cause.reasons : []
        const [first, ...rest] = reasons
        const error = first?._tag === "Fail" ? first.error : undefined
        if (!isLockLost(error)) assert.fail(`${what}: ${String(exit)}`)
        assert.strictEqual(error.outcome, "Unknown", what)
        assert.isFalse(error.isRetryable)
        assert.deepStrictEqual(rest.some(Cause.isInterruptReason), false, what)
        if (what !== "wrapped" && what !== "cleaned") assert.lengthOf(rest, 0, `${what}: ${String(exit)}`)
        if (what === "cleaned") assert.deepStrictEqual(rest.map((reason) => reason._tag), ["Die"], String(exit))
        assert.isUndefined(yield* textOf(kv, "k"))
      }
    }
  ),

  test(
    "an effect can be run under an acquired lock: fenced, and interrupted when the lock is lost",
    function*(kv) {
      yield* Effect.scoped(Effect.gen(function*() {
        const { lock } = yield* hold(kv, "l")
        assert.strictEqual(yield* DistLock.fenced(lock)(Effect.as(kv.put("k", "1"), "done")), "done")
        assert.deepStrictEqual(yield* Effect.exit(DistLock.fenced(lock)(Effect.fail("own"))), Exit.fail("own"))
        const taken = Option.getOrThrow(yield* on(kv)(DistLock.tryAcquire("t")))
        yield* DistLock.fenced(kv.put("k", "2"), taken)
        const waiting = yield* Effect.forkChild(DistLock.fenced(Effect.never, lock))
        yield* kv.delete(lock.key)
        yield* rejects(kv, "LockLost", DistLock.fence(kv, lock).put("k", "3"))
        failedWith(yield* promptly("the end", Fiber.await(waiting)), "LockLost")
        assert.strictEqual(yield* textOf(kv, "k"), "2")
      }))
    }
  ),

  test("custom conditions fence writes, and not the internal requests of a lock", function*(kv) {
    const rejected = KvError.fail(new KvError.InvalidRequest({ message: "the epoch is over" }))
    const app = Kv.prefixed(kv, "app/")
    const guarded = Fence.guarded(app, [Compare.value("epoch", "=", "1"), Compare.exists("epoch")], rejected)
    yield* app.put("epoch", "1")
    yield* guarded.put("k", "1")
    yield* Kv.prefixed(guarded, "deep/").put("k", "1")
    let within: KvError.Reason | undefined
    yield* DistLock.use("l", () =>
      Effect.gen(function*() {
        yield* guarded.put("k", "2")
        yield* app.put("epoch", "2")
        within = yield* reasonOf(guarded.put("k", "3"))
      })).pipe(on(guarded))
    assert.strictEqual(within?.message, "the epoch is over", "the error is about the condition, not the lock")
    yield* isFree(app, "l")
    assert.strictEqual((yield* reasonOf(Kv.prefixed(guarded, "deep/").put("k", "4")))._tag, "InvalidRequest")
    assert.strictEqual((yield* reasonOf(guarded.txn({ then: [Op.delete("k")] })))._tag, "InvalidRequest")
    assert.strictEqual(yield* textOf(kv, "app/k"), "2")
    assert.strictEqual(yield* textOf(kv, "app/deep/k"), "1")
  }),

  test("a custom fence can be provided to an effect", function*(kv) {
    const over = KvError.fail(new KvError.InvalidRequest({ message: "the epoch is over" }))
    const fence = Fence.make(Kv.prefixed(kv, "app/"), { conditions: [Compare.missing("over")], rejected: over })
    yield* Fence.provide(kv.put("k", "1"), fence)
    yield* kv.put("app/over", "")
    assert.strictEqual((yield* reasonOf(Fence.provide(kv.put("k", "2"), fence)))._tag, "InvalidRequest")
    assert.strictEqual(yield* textOf(kv, "k"), "1")
  }),

  test("a fence that is attached to a Kv applies to its writes in every fiber and namespace", function*(kv) {
    const over = KvError.fail(new KvError.InvalidRequest({ message: "the epoch is over" }))
    const fence = Fence.make(Kv.prefixed(kv, "locks/"), { conditions: [Compare.missing("over")], rejected: over })
    const app = yield* Fence.attach(Kv.prefixed(kv, "app/"), fence)
    yield* Fiber.join(yield* Effect.forkDetach(app.put("k", "1")))
    yield* kv.put("locks/over", "")
    for (const view of [app, Kv.prefixed(app, "deep/")]) {
      assert.strictEqual((yield* reasonOf(view.put("k", "2"))).message, "the epoch is over")
    }
    yield* kv.put("k", "3")
    assert.strictEqual(yield* textOf(kv, "app/k"), "1")
    assert.strictEqual(yield* textOf(kv, "app/deep/k"), undefined)
  }),

  test("a fence cannot be attached to a Kv of another client, whose writes it would not reach", function*(kv) {
    const over = KvError.fail(new KvError.InvalidRequest({ message: "the epoch is over" }))
    const fence = Fence.make(kv, { conditions: [Compare.missing("over")], rejected: over })
    const other = yield* newClient
    const reason = yield* rejects(kv, "InvalidRequest", Fence.attach(other, fence))
    assert.include(reason.message, "another client")
  })
])

const isLockLost = (error: unknown): error is { readonly outcome: string; readonly isRetryable: boolean } =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "LockLost"
