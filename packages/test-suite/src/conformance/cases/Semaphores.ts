/**
 * Semaphores: never more than N permits, in order of arrival with weights, and permits that return with their lease.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { chapter, newClient, promptly, reasonOf, revisionOf, Store, test, waitingTest, waitUntil } from "./Case.ts"
import { entryOf, putWhether, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { atEachStep, type Recipe } from "./interruption.ts"
import { exitOf, failedWith, on, soon } from "./locking.ts"

const limitOf = (name: string) => `${name}/permits/limit`

type Semaphore = DistSemaphore.DistSemaphore

const make = (kv: Kv.Kv, name: string, permits: number) => on(kv)(DistSemaphore.make(name, { permits }))

/** Acquires permits until they are released or the case ends. */
const hold = Effect.fnUntraced(function*(
  semaphore: Semaphore,
  permits: number,
  options?: DistLock.AcquireOptions
): Effect.fn.Return<
  { readonly lock: DistLock.Lock; readonly release: Effect.Effect<void> },
  DistSemaphore.Failure,
  Scope.Scope
> {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const lock = yield* promptly(
    `${permits} permits of ${semaphore.name}`,
    Scope.provide(semaphore.acquire(permits, options), scope)
  )
  return { lock, release: Scope.close(scope, Exit.void) }
})

/** Starts an effect under permits in the background, and returns once it is in the queue. */
const enter = Effect.fnUntraced(function*<A, E, R>(
  semaphore: Semaphore,
  permits: number,
  effect: Effect.Effect<A, E, R>,
  options?: DistLock.Options
) {
  const before = yield* contenders(semaphore)
  const fiber = yield* Effect.forkScoped(semaphore.withPermits(permits, options)(effect))
  yield* soon(
    `${before + 1} contenders for ${semaphore.name}`,
    Effect.map(contenders(semaphore), (count) => count === before + 1 || fiber.pollUnsafe() !== undefined)
  )
  return fiber
})

const contenders = (semaphore: Semaphore) =>
  Effect.map(
    Effect.all([semaphore.holders, semaphore.waiters]),
    ([holders, waiters]) => holders.length + waiters.length
  )

/** Asserts that no contender and no key is left, apart from the number of permits. */
const isIdle = (kv: Kv.Kv, name: string) =>
  soon(
    `${name} has no contender`,
    Effect.map(
      kv.range(KeyRange.prefix(`${name}/`)),
      ({ entries }) => entries.every(({ key }) => key === limitOf(name))
    )
  )

const heldBy = (semaphore: Semaphore) =>
  Effect.map(semaphore.holders, (holders) => holders.reduce((sum, { permits }) => sum + permits, 0))

/** Whether the fiber still waits, after everything that was going to happen has happened. */
const stillWaits = Effect.fnUntraced(function*(kv: Kv.Kv, fiber: Fiber.Fiber<unknown, unknown>) {
  yield* kv.put("still-waits", "1")
  yield* kv.get("still-waits")
  assert.isUndefined(fiber.pollUnsafe())
})

export const cases = chapter("semaphores", [
  test("the number of permits is a key, and a holder is a key with its lease", function*(kv) {
    const semaphore = yield* make(kv, "jobs/import", 5)
    assert.strictEqual(yield* textOf(kv, "jobs/import/permits/limit"), "5")
    const { lock, release } = yield* hold(semaphore, 2, { description: "worker a" })
    const entry = yield* entryOf(kv, lock.key)
    const lease = Option.getOrThrow(entry.lease)
    assert.strictEqual(lock.key, `jobs/import/permits/${lease.toString(16)}`)
    assert.strictEqual(entry.lossyText, "2 worker a")
    assert.strictEqual(lock.token, entry.createRevision)
    assert.strictEqual(lock.name, "jobs/import")
    const second = yield* hold(semaphore, 1)
    assert.strictEqual((yield* entryOf(kv, second.lock.key)).lossyText, "1")
    assert.deepStrictEqual((yield* semaphore.holders).map((holder) => ({ ...holder })), [
      { key: lock.key, permits: 2, token: lock.token, lease: Option.some(lease), description: "worker a" },
      { key: second.lock.key, permits: 1, token: second.lock.token, lease: Option.some(lease), description: "" }
    ])
    assert.deepStrictEqual(yield* semaphore.waiters, [])
    assert.strictEqual(yield* semaphore.permits, 5)
    yield* release
    yield* second.release
    assert.isFalse(yield* lock.isHeld)
    failedWith(yield* Effect.exit(lock.lost), "LockLost")
    yield* isIdle(kv, "jobs/import")
  }),

  test("acquiring permits that are free is one request, and so is releasing them", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const semaphore = yield* make(client, "s", 3)
    const first = yield* hold(semaphore, 1)
    seen.calls.length = 0
    const second = yield* hold(semaphore, 2)
    yield* second.release
    yield* first.release
    const third = yield* Effect.scoped(semaphore.tryAcquire(3))
    assert.isTrue(Option.isSome(third))
    // Without renewals, and the watch of its own key that a holder opens after 200 ms.
    const operations = seen.calls.flatMap(({ op }) => op === undefined ? [] : [op._tag])
    assert.deepStrictEqual(operations, ["Txn", "Txn", "Txn", "Txn", "Txn"])
    yield* isIdle(kv, "s")
  }),

  test("never more than N permits are held, whatever their weights, and each holder's token is larger", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const semaphores: Array<Semaphore> = []
    for (const client of clients) semaphores.push(yield* make(client, "s", 4))
    let held = 0
    let most = 0
    const tokens: Array<bigint> = []
    const use = (i: number) => {
      const weight = i % 3 + 1
      return Effect.scoped(Effect.gen(function*() {
        const { token } = yield* semaphores[i % semaphores.length]!.acquire(weight)
        tokens.push(token)
        held += weight
        most = Math.max(most, held)
        for (let turn = 0; turn < 5; turn++) yield* Effect.andThen(kv.put(`working/${i}`, "1"), Effect.yieldNow)
        held -= weight
      }))
    }
    yield* promptly(
      "all have worked",
      Effect.forEach(Array.from({ length: 24 }, (_, i) => i), use, { concurrency: "unbounded" })
    )
    assert.isAtMost(most, 4)
    assert.strictEqual(new Set(tokens).size, 24)
    yield* isIdle(kv, "s")
  }),

  test("permits are acquired in order of arrival, and a small request does not overtake a large one", function*(kv) {
    const mine = yield* make(kv, "s", 3)
    const other = yield* make(yield* newClient, "s", 3)
    const order: Array<string> = []
    const note = (what: string) => Effect.sync(() => order.push(what))
    const holder = yield* hold(mine, 1)
    const large = yield* enter(other, 3, note("large"))
    const small = yield* enter(mine, 1, note("small"))
    const last = yield* enter(other, 2, note("last"))
    assert.deepStrictEqual((yield* mine.waiters).map(({ permits }) => permits), [3, 1, 2])
    yield* stillWaits(kv, small)
    yield* holder.release
    yield* promptly("all have run", Fiber.joinAll([large, small, last]))
    assert.strictEqual(order[0], "large")
    yield* isIdle(kv, "s")
  }),

  test("one release admits as many waiters as have room", function*(kv) {
    const semaphore = yield* make(kv, "s", 4)
    const other = yield* make(yield* newClient, "s", 4)
    const holder = yield* hold(semaphore, 4)
    const running = new Set<number>()
    const run = (i: number) => Effect.andThen(Effect.sync(() => running.add(i)), Effect.never)
    for (const [i, weight] of [1, 2, 1, 1].entries()) {
      yield* enter(i % 2 === 0 ? semaphore : other, weight, run(i))
    }
    assert.strictEqual(running.size, 0)
    yield* holder.release
    yield* soon("the first three run", Effect.sync(() => running.size >= 3))
    assert.deepStrictEqual([...running].sort(), [0, 1, 2])
    assert.strictEqual(yield* heldBy(semaphore), 4)
  }),

  test("waiting is free: one watch and one read for all waiters of a client, and none for a release", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    const semaphore = yield* make(client, "s", 2)
    const holder = yield* hold(yield* make(kv, "s", 2), 2)
    yield* hold(yield* make(client, "keeps-the-session", 1), 1)
    seen.calls.length = 0
    const waiters = []
    for (let i = 0; i < 12; i++) waiters.push(yield* Effect.forkScoped(semaphore.withPermits(1)(Effect.void)))
    yield* soon("all wait", Effect.map(contenders(yield* make(kv, "s", 2)), (count) => count === 13))
    const isOfQueue = (call: faults.Call) => call.kind === "watch" && call.request?.range._tag === "Prefix"
    yield* soon("the watch is open", Effect.sync(() => seen.calls.some(isOfQueue) && seen.pending === 0))
    yield* holder.release
    yield* promptly("all have run", Fiber.joinAll(waiters))
    const count = (tag: string) => seen.calls.filter(({ op }) => op?._tag === tag).length
    assert.deepStrictEqual(
      {
        entries: seen.calls.filter(faults.isEntry).length,
        removals: seen.calls.filter(faults.isRemoval).length,
        transactions: count("Txn"),
        reads: count("Range"),
        watches: seen.calls.filter(isOfQueue).length
      },
      { entries: 12, removals: 12, transactions: 24, reads: 1, watches: 1 }
    )
  }),

  test(
    "a stored number of permits that is no plain decimal number is rejected, and not read again and again",
    function*(kv) {
      const semaphore = yield* make(kv, "s", 5)
      for (const stored of ["05", "five", "0", "+5", ""]) {
        yield* kv.put(limitOf("s"), stored)
        const calls: ReadonlyArray<Effect.Effect<unknown, unknown, Scope.Scope>> = [
          semaphore.acquire(1),
          semaphore.tryAcquire(1),
          semaphore.resize(6),
          make(kv, "s", 5)
        ]
        for (const call of calls) {
          assert.strictEqual((yield* promptly(stored, reasonOf(Effect.scoped(call))))._tag, "InvalidRequest")
        }
      }
    }
  ),

  test("another number of permits is a PermitsMismatch that names both numbers", function*(kv) {
    const semaphore = yield* make(kv, "s", 5)
    yield* make(yield* newClient, "s", 5)
    const before = yield* revisionOf(kv)
    const mismatch = failedWith(yield* Effect.exit(make(yield* newClient, "s", 7)), "PermitsMismatch")
    assert.deepStrictEqual([mismatch.semaphore, mismatch.permits, mismatch.stored], ["s", 7, 5])
    assert.include(mismatch.message, "5")
    assert.include(mismatch.message, "7")
    assert.strictEqual(yield* textOf(kv, limitOf("s")), "5", "the number in use stays")
    assert.strictEqual(yield* revisionOf(kv), before)
    yield* hold(semaphore, 5)
    for (const value of ["not a number", "05", "5 ", ""]) {
      yield* kv.put(limitOf("foreign"), value)
      assert.strictEqual((yield* reasonOf(make(kv, "foreign", 5)))._tag, "InvalidRequest")
      assert.strictEqual(yield* textOf(kv, limitOf("foreign")), value)
    }
  }),

  test("more permits than there are fail with TooManyPermits at once, and invalid numbers are rejected", function*(kv) {
    const semaphore = yield* make(kv, "s", 2)
    yield* hold(semaphore, 2)
    const before = yield* revisionOf(kv)
    const error = failedWith(yield* Effect.exit(semaphore.withPermits(3)(Effect.void)), "TooManyPermits")
    assert.deepStrictEqual([error.semaphore, error.requested, error.permits], ["s", 3, 2])
    failedWith(yield* Effect.exit(semaphore.withPermitsIfAvailable(3)(Effect.void)), "TooManyPermits")
    failedWith(yield* Effect.exit(Effect.scoped(semaphore.acquire(3))), "TooManyPermits")
    for (const permits of [0, -1, 1.5, NaN, Infinity]) {
      assert.strictEqual((yield* reasonOf(semaphore.withPermits(permits)(Effect.void)))._tag, "InvalidRequest")
      assert.strictEqual((yield* reasonOf(make(kv, "other", permits)))._tag, "InvalidRequest")
      assert.strictEqual((yield* reasonOf(semaphore.resize(permits)))._tag, "InvalidRequest")
    }
    assert.strictEqual((yield* reasonOf(make(kv, "", 1)))._tag, "InvalidRequest")
    assert.strictEqual(yield* revisionOf(kv), before)
  }),

  test("semaphores, locks and other names that extend each other do not interfere", function*(kv) {
    const names = ["jobs", "jobs2", "jobs/2", "jobs/permits", "jobs/permits/x"]
    const held = []
    for (const name of names) held.push(yield* hold(yield* make(kv, name, 1), 1))
    for (const name of ["jobs", "jobs2", "jobs/2", "jobs/2/x"]) {
      assert.isTrue(Option.isSome(yield* Effect.scoped(on(kv)(DistLock.tryAcquire(name)))), `the lock ${name} is free`)
    }
    for (const [i, name] of names.entries()) {
      const semaphore = yield* make(kv, name, 1)
      assert.strictEqual(yield* heldBy(semaphore), 1)
      assert.isTrue(Option.isNone(yield* semaphore.withPermitsIfAvailable(1)(Effect.void)))
      yield* held[i]!.release
      assert.isTrue(Option.isSome(yield* semaphore.withPermitsIfAvailable(1)(Effect.void)))
    }
  }),

  test("in a namespace a semaphore is that of the full name", function*(kv) {
    const inside = yield* make(Kv.prefixed(kv, "app/"), "s", 2)
    const outside = yield* make(yield* newClient, "app/s", 2)
    const first = yield* hold(inside, 1)
    const second = yield* hold(outside, 1)
    const waits = yield* enter(inside, 2, Effect.void)
    const also = yield* enter(outside, 2, Effect.void)
    assert.deepStrictEqual(yield* inside.waiters.pipe(Effect.map((all) => all.length)), 2)
    yield* first.release
    yield* second.release
    yield* promptly("both have run", Fiber.joinAll([waits, also]))
    assert.strictEqual(yield* kv.count(KeyRange.prefix("s")), 0)
  }),

  test("permits that are not available now leave no key and delay no other client", function*(kv) {
    const semaphore = yield* make(kv, "s", 3)
    const other = yield* make(yield* newClient, "s", 3)
    const first = yield* hold(semaphore, 2)
    const before = yield* revisionOf(kv)
    assert.isTrue(Option.isNone(yield* other.withPermitsIfAvailable(2)(Effect.die("must not run"))))
    assert.isTrue(Option.isNone(yield* Effect.scoped(other.tryAcquire(2))))
    assert.strictEqual(yield* revisionOf(kv), before)
    assert.deepStrictEqual(yield* other.withPermitsIfAvailable(1)(heldBy(semaphore)), Option.some(3))
    // A waiter's permits are not available, even if it cannot have them yet.
    const waits = yield* enter(semaphore, 2, Effect.void)
    assert.isTrue(Option.isNone(yield* other.withPermitsIfAvailable(1)(Effect.void)))
    yield* first.release
    yield* promptly("the waiter has run", Fiber.join(waits))
    assert.deepStrictEqual(
      yield* Effect.exit(other.withPermitsIfAvailable(3)(Effect.fail("own"))),
      Exit.fail("own")
    )
    yield* isIdle(kv, "s")
  }),

  test("attempts to acquire at once all succeed while there is room", function*(kv) {
    const clients = [kv, yield* newClient]
    const semaphores: Array<Semaphore> = []
    for (const client of clients) semaphores.push(yield* make(client, "s", 6))
    const attempts = yield* Effect.forEach(
      Array.from({ length: 9 }, (_, i) => semaphores[i % 2]!),
      (semaphore) => semaphore.tryAcquire(1),
      { concurrency: "unbounded" }
    )
    assert.strictEqual(attempts.filter(Option.isSome).length, 6)
    assert.strictEqual(yield* heldBy(semaphores[0]!), 6)
  }),

  test("a resize to more permits admits the waiters that have room, and every client follows", function*(kv) {
    const semaphore = yield* make(kv, "s", 1)
    const other = yield* make(yield* newClient, "s", 1)
    yield* hold(semaphore, 1)
    const running = new Set<number>()
    const run = (i: number) => Effect.andThen(Effect.sync(() => running.add(i)), Effect.never)
    for (let i = 0; i < 3; i++) yield* enter(i === 1 ? other : semaphore, 1, run(i))
    yield* semaphore.resize(3)
    yield* soon("two more run", Effect.sync(() => running.size >= 2))
    assert.deepStrictEqual([...running].sort(), [0, 1])
    assert.strictEqual(yield* other.permits, 3)
    yield* other.resize(5)
    yield* soon("the last runs", Effect.sync(() => running.size >= 3))
    const third = yield* hold(yield* make(yield* newClient, "s", 5), 1)
    yield* third.release
    assert.deepStrictEqual(yield* semaphore.withPermitsIfAvailable(1)(Effect.succeed(1)), Option.some(1))
    failedWith(yield* Effect.exit(make(yield* newClient, "s", 1)), "PermitsMismatch")
  }),

  test(
    "a resize to fewer permits does not affect the holders, and admits no waiter until there is room",
    function*(kv) {
      const semaphore = yield* make(kv, "s", 4)
      const other = yield* make(yield* newClient, "s", 4)
      const holders = []
      for (let i = 0; i < 4; i++) holders.push(yield* hold(semaphore, 1))
      const large = yield* enter(other, 3, Effect.void)
      const small = yield* enter(other, 1, Effect.void)
      yield* semaphore.resize(2)
      const error = failedWith(yield* exitOf("it is too large now", large), "TooManyPermits")
      assert.deepStrictEqual([error.requested, error.permits], [3, 2])
      for (const { lock } of holders) assert.isTrue(yield* lock.isHeld)
      yield* holders[0]!.release
      yield* holders[1]!.release
      yield* stillWaits(kv, small)
      yield* holders[2]!.release
      yield* promptly("the small one has run", Fiber.join(small))
      failedWith(yield* Effect.exit(other.withPermits(3)(Effect.void)), "TooManyPermits")
    }
  ),

  test("the writes of an effect under permits are fenced", function*(kv) {
    const deaf = faults.make()
    const client = yield* faults.newClientWith(deaf)
    deaf.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
    const semaphore = yield* make(client, "s", 2)
    const barrier = yield* faults.barrier
    const reasons: Array<string> = []
    const fiber = yield* enter(
      semaphore,
      1,
      Effect.uninterruptible(Effect.gen(function*() {
        yield* client.put("written", "1")
        yield* barrier.stop
        reasons.push((yield* Effect.orDie(reasonOf(client.put("written", "2"))))._tag)
      }))
    )
    yield* promptly("it runs", barrier.reached)
    yield* kv.delete((yield* semaphore.holders)[0]!.key)
    yield* barrier.letGo
    failedWith(yield* exitOf("the loss", fiber), "LockLost")
    assert.deepStrictEqual(reasons, ["LockLost"])
    assert.strictEqual(yield* textOf(kv, "written"), "1")
    // A second holder is not affected, nor is one whose permits were acquired in a scope.
    const { lock } = yield* hold(semaphore, 2)
    yield* client.put("written", "3").pipe(DistLock.fenced(lock))
    assert.strictEqual(yield* textOf(kv, "written"), "3")
  }),

  test("a fiber that would wait for its own permits is rejected, and one with room is not", function*(kv) {
    const semaphore = yield* make(kv, "s", 3)
    const nested = semaphore.withPermits(2)(semaphore.withPermits(1)(Effect.succeed("both")))
    assert.strictEqual(yield* nested, "both")
    assert.strictEqual(
      (yield* reasonOf(semaphore.withPermits(2)(semaphore.withPermits(2)(Effect.void))))._tag,
      "InvalidRequest"
    )
    yield* isIdle(kv, "s")
  }),

  test("names that are used once leave no keys if they are removed, and a number in use stays", function*(kv) {
    for (let i = 0; i < 20; i++) {
      const semaphore = yield* make(kv, `once/${i}`, i + 1)
      yield* semaphore.withPermits(1)(Effect.void)
      yield* semaphore.resize(i + 2)
      assert.isTrue(yield* semaphore.remove)
    }
    assert.strictEqual(yield* kv.count(KeyRange.prefix("once/")), 0)

    const used = yield* make(kv, "used", 2)
    const { release } = yield* hold(used, 1)
    assert.isFalse(yield* used.remove)
    assert.strictEqual(yield* textOf(kv, limitOf("used")), "2")
    yield* used.resize(3)
    yield* release
    assert.isTrue(yield* used.remove)
    // One that still uses it makes it again, with the number that it knew last.
    assert.strictEqual(yield* used.withPermits(3)(textOf(kv, limitOf("used"))), "3")
    assert.isTrue(yield* used.remove)
    yield* make(yield* newClient, "used", 9)
    const mismatch = failedWith(yield* Effect.exit(used.withPermits(1)(Effect.void)), "PermitsMismatch")
    assert.deepStrictEqual([mismatch.permits, mismatch.stored], [2, 9])
  }),

  test("a holder that was restarted under the same description is another holder", function*(kv) {
    const semaphore = yield* make(kv, "s", 1)
    const old = yield* newClient
    yield* hold(yield* make(old, "s", 1), 1, { description: "host-1" })
    const restarted = yield* enter(semaphore, 1, semaphore.holders, { description: "host-1" })
    yield* stillWaits(kv, restarted)
    const [holder] = yield* semaphore.holders
    yield* backendOf(kv).leaseRevoke(Option.getOrThrow(holder!.lease))
    const holders = yield* promptly("it holds", Fiber.join(restarted))
    assert.deepStrictEqual(holders.map(({ description }) => description), ["host-1"])
    assert.isTrue(holders[0]!.token > holder!.token)
  }),

  waitingTest(
    "the failure of a release of permits does not replace the effect's own, and finalizers run before it",
    function*(kv) {
      const name = "semaphore/release"
      const cut = faults.make()
      const semaphore = yield* make(yield* faults.newClientWith(cut), name, 1)
      const other = yield* make(kv, name, 1)
      let heldInFinalizer = 0
      cut.before = (call) => faults.isRemoval(call) ? faults.unavailable : Effect.void
      const fiber = yield* Effect.fail("own").pipe(
        Effect.ensuring(Effect.orDie(Effect.map(heldBy(other), (held) => heldInFinalizer = held))),
        semaphore.withPermits(1),
        Effect.forkScoped
      )
      const exit = yield* exitOf("the failure", fiber)
      assert.isTrue(Exit.isFailure(exit) && exit.cause.reasons.every(Cause.isFailReason))
      assert.deepStrictEqual(Exit.findErrorOption(exit), Option.some("own"))
      assert.strictEqual(heldInFinalizer, 1)
      cut.before = () => Effect.void
      yield* waitUntil("it was released", Effect.map(contenders(other), (count) => count === 0))
    }
  ),

  waitingTest("an acquisition of permits that is interrupted at any step leaves nothing behind", function*(kv) {
    const struck = yield* atEachStep(kv, "semaphore-interrupted", recipe, "interrupted")
    assert.isAtLeast(struck, 16)
  }),

  waitingTest("an acquisition of permits that loses a response at any step leaves nothing behind", function*(kv) {
    yield* atEachStep(kv, "semaphore-lost", recipe, "without a response")
  }),

  waitingTest(
    "permits return when the lease of their holder ends, and its effect was interrupted before",
    function*(kv) {
      const name = "semaphore/cut-off"
      const cut = faults.make()
      const semaphore = yield* make(kv, name, 2)
      const lost = yield* make(yield* faults.newClientWith(cut), name, 2)
      let key = ""
      const ended = putWhether(kv, `${name}.ended`, () => Compare.exists(key))
      const holder = yield* enter(
        lost,
        2,
        Effect.onInterrupt(Effect.never, () => Fence.unfenced(Effect.orDie(ended))),
        { ttl: "3 seconds" }
      )
      yield* soon("it holds", Effect.map(heldBy(semaphore), (held) => held === 2))
      const next = yield* enter(semaphore, 1, Effect.void)
      key = (yield* semaphore.holders)[0]!.key
      cut.before = (call) => call.kind === "leaseKeepAlive" ? faults.unavailable : Effect.void
      failedWith(yield* exitOf("the loss", holder), "LockLost")
      assert.strictEqual(
        yield* textOf(kv, `${name}.ended`),
        "true",
        "it was interrupted before the store deleted its key"
      )
      assert.isTrue(Exit.isSuccess(yield* exitOf("the next runs", next)))
    }
  ),

  waitingTest("a waiter whose key or lease is gone fails with LockLost and is not admitted", function*(kv) {
    const name = "semaphore/waiter-lost"
    const semaphore = yield* make(kv, name, 1)
    const holder = yield* hold(semaphore, 1)
    const deleted = yield* enter(yield* make(yield* newClient, name, 1), 1, Effect.die("must not run"))
    const revoked = yield* enter(yield* make(yield* newClient, name, 1), 1, Effect.die("must not run"))
    const last = yield* enter(semaphore, 1, Effect.void)
    const waiters = yield* semaphore.waiters
    yield* kv.delete(waiters[0]!.key)
    yield* backendOf(kv).leaseRevoke(Option.getOrThrow(waiters[1]!.lease))
    failedWith(yield* exitOf("the loss of the key", deleted), "LockLost")
    failedWith(yield* exitOf("the loss of the lease", revoked), "LockLost")
    yield* holder.release
    assert.isTrue(Exit.isSuccess(yield* exitOf("the last runs", last)))
  }),

  waitingTest("a waiter for permits keeps waiting through a compaction and an outage", function*(kv) {
    const name = "semaphore/compacted"
    const store = yield* Store
    const holder = yield* hold(yield* make(kv, name, 1), 1)
    const cut = faults.make()
    cut.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
    const waiting = yield* enter(yield* make(yield* faults.newClientWith(cut), name, 1), 1, Effect.void)
    yield* store.compact((yield* kv.put(`${name}.other`, "1")).revision)
    yield* store.passTime("1 second")
    cut.before = () => Effect.void
    yield* store.passTime("1 second")
    assert.isUndefined(waiting.pollUnsafe())
    yield* holder.release
    assert.isTrue(Exit.isSuccess(yield* exitOf("it runs", waiting)))
  }),

  waitingTest(
    "an acquisition that times out names a key without a lease that is ahead, and leaves no key",
    function*(kv) {
      const name = "semaphore/blocked"
      const semaphore = yield* make(kv, name, 1)
      yield* kv.put(`${name}/permits/foreign`, "x")
      const waiting = yield* enter(semaphore, 1, Effect.void, { acquireTimeout: "2 seconds" })
      const error = failedWith(yield* exitOf("the timeout", waiting), "LockTimeout")
      assert.deepStrictEqual(error.blockedBy, Option.some(`${name}/permits/foreign`))
      assert.deepStrictEqual((yield* semaphore.holders).map(({ key }) => key), [`${name}/permits/foreign`])
      assert.deepStrictEqual(yield* semaphore.waiters, [])
    }
  ),

  waitingTest("an effect that runs for longer than maxHold gives its permits up", function*(kv) {
    const name = "semaphore/hangs"
    const semaphore = yield* make(kv, name, 1)
    const hanging = yield* enter(semaphore, 1, Effect.never, { maxHold: "2 seconds" })
    const next = yield* enter(semaphore, 1, Effect.void)
    failedWith(yield* exitOf("the end of the hold", hanging), "LockHoldExceeded")
    assert.isTrue(Exit.isSuccess(yield* exitOf("the next runs", next)))
    yield* isIdle(kv, name)
  })
])

const recipe: Recipe = {
  prepare: (kv, name) => make(kv, name, 2),
  attempt: (kv, name) => Effect.flatMap(make(kv, name, 2), (semaphore) => semaphore.withPermits(2)(Effect.void)),
  block: (kv, name) =>
    Effect.flatMap(make(kv, name, 2), (semaphore) => Effect.map(hold(semaphore, 1), ({ release }) => release)),
  keysLeft: 1
}
