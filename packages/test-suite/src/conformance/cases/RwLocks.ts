/**
 * Read-write locks: readers share, writers exclude, in order of arrival, and the writes of both are fenced.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistRwLock from "@effect-kv/core/DistRwLock"
import * as Fence from "@effect-kv/core/Fence"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as KvErrors from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import type { LockLost, LockTimeout } from "@effect-kv/core/LockError"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { chapter, newClient, promptly, reasonOf, test, waitingTest } from "./Case.ts"
import { entryOf, putWhether, textOf } from "./entries.ts"
import * as faults from "./faults.ts"
import { atEachStep, type Recipe } from "./interruption.ts"
import { exitOf, failedWith, on, soon } from "./locking.ts"

type Mode = "Read" | "Write"

/** Acquires the lock until it is released or the case ends. */
const hold = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  mode: Mode,
  name: string,
  options?: DistLock.AcquireOptions
): Effect.fn.Return<
  { readonly lock: DistLock.Lock; readonly release: Effect.Effect<void> },
  KvError | LockLost | LockTimeout,
  Scope.Scope
> {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const acquire = mode === "Read" ? DistRwLock.acquireRead : DistRwLock.acquireWrite
  const lock = yield* promptly(`${mode} ${name}`, acquire(name, options).pipe(on(kv), Scope.provide(scope)))
  return { lock, release: Scope.close(scope, Exit.void) }
})

const contenders = (kv: Kv.Kv, name: string) => on(kv)(DistRwLock.contenders(name))

/** Starts an effect under the lock in the background, and returns once it is in the queue. */
const enter = Effect.fnUntraced(function*<A, E>(
  kv: Kv.Kv,
  mode: Mode,
  name: string,
  effect: Effect.Effect<A, E, Kv.Kv>,
  options?: DistLock.Options
) {
  const before = (yield* contenders(kv, name)).length
  const withLock = mode === "Read" ? DistRwLock.withReadLock : DistRwLock.withWriteLock
  const fiber = yield* Effect.forkScoped(on(kv)(withLock(effect, name, options)))
  yield* soon(
    `${before + 1} contenders for ${name}`,
    Effect.map(contenders(kv, name), (all) => all.length === before + 1 || fiber.pollUnsafe() !== undefined)
  )
  return fiber
})

const isFree = (kv: Kv.Kv, name: string) =>
  soon(`${name} is free`, Effect.map(contenders(kv, name), (all) => all.length === 0))

/** Whether the fiber still waits, after everything that was going to happen has happened. */
const stillWaits = Effect.fnUntraced(function*(kv: Kv.Kv, fiber: Fiber.Fiber<unknown, unknown>) {
  yield* kv.put("still-waits", "1")
  yield* kv.get("still-waits")
  assert.isUndefined(fiber.pollUnsafe())
})

const recipe = (mode: Mode): Recipe => ({
  prepare: () => Effect.void,
  attempt: (kv, name) =>
    on(kv)(Effect.void.pipe(mode === "Read" ? DistRwLock.withReadLock(name) : DistRwLock.withWriteLock(name))),
  block: (kv, name) => Effect.map(hold(kv, mode === "Read" ? "Write" : "Read", name), ({ release }) => release),
  keysLeft: 0
})

export const cases = chapter("read-write locks", [
  test("a holder's key is under read or write, then the lease in hexadecimal, as for Go's RWMutex", function*(kv) {
    for (const mode of ["Read", "Write"] as const) {
      const { lock, release } = yield* hold(kv, mode, "index", { description: "worker a" })
      const entry = yield* entryOf(kv, lock.key)
      const lease = Option.getOrThrow(entry.lease)
      assert.strictEqual(lock.key, `index/${mode.toLowerCase()}/${lease.toString(16)}`)
      assert.deepStrictEqual([lock.name, lock.token], ["index", entry.createRevision])
      assert.deepStrictEqual((yield* contenders(kv, "index")).map((each) => ({ ...each })), [
        { mode, key: lock.key, token: lock.token, lease: Option.some(lease), description: "worker a" }
      ])
      yield* release
      assert.isFalse(yield* lock.isHeld)
      failedWith(yield* Effect.exit(lock.lost), "LockLost")
    }
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("a read-write lock that is free is acquired by one request, and released by one", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* hold(client, "Read", "keeps-the-session")
    seen.calls.length = 0
    for (const mode of ["Read", "Write"] as const) yield* (yield* hold(client, mode, "l")).release
    const readers = [yield* hold(client, "Read", "l"), yield* hold(client, "Read", "l")]
    for (const { release } of readers) yield* release
    // Without renewals, and the watch of its own key that a holder opens after 200 ms.
    const operations = seen.calls.flatMap(({ op }) => op === undefined ? [] : [op._tag])
    assert.deepStrictEqual(operations, Array.from({ length: 8 }, () => "Txn"))
    yield* isFree(kv, "l")
  }),

  test("readers share the lock, and a writer excludes readers and writers", function*(kv) {
    const other = yield* newClient
    const first = yield* hold(kv, "Read", "l")
    const second = yield* hold(other, "Read", "l")
    let writes = false
    const writing = yield* enter(other, "Write", "l", Effect.andThen(Effect.sync(() => writes = true), Effect.never))
    yield* stillWaits(kv, writing)
    yield* first.release
    yield* stillWaits(kv, writing)
    assert.isFalse(writes)
    yield* second.release
    yield* soon("the writer has the lock", Effect.sync(() => writes))
    const reader = yield* enter(kv, "Read", "l", Effect.void)
    const writer = yield* enter(kv, "Write", "l", Effect.void)
    yield* stillWaits(kv, reader)
    yield* stillWaits(kv, writer)
    yield* Fiber.interrupt(writing)
    yield* promptly("both have run", Fiber.joinAll([reader, writer]))
    yield* isFree(kv, "l")
  }),

  test("readers and writers enter in order of arrival, with all readers between two writers at once", function*(kv) {
    const clients = [kv, yield* newClient]
    const order: Array<string> = []
    let readers = 0
    let mostReaders = 0
    let writers = 0
    const body = (i: number, mode: Mode) =>
      Effect.gen(function*() {
        order.push(`${mode} ${i}`)
        assert.strictEqual(writers, 0, "no writer is beside another holder")
        if (mode === "Write") {
          assert.strictEqual(readers, 0, "no reader is beside a writer")
          writers++
          yield* kv.get("a")
          writers--
          return
        }
        readers++
        mostReaders = Math.max(mostReaders, readers)
        yield* soon("all readers of the batch read", Effect.sync(() => mostReaders >= 2))
        readers--
      })
    const holder = yield* hold(kv, "Write", "l")
    const fibers = []
    const modes = ["Read", "Read", "Write", "Write", "Read", "Read"] as const
    for (const [i, mode] of modes.entries()) {
      if (i === 4) mostReaders = 0
      fibers.push(yield* enter(clients[i % 2]!, mode, "l", body(i, mode)))
    }
    yield* holder.release
    yield* promptly("all have run", Fiber.joinAll(fibers))
    assert.deepStrictEqual(order.slice(2, 4), ["Write 2", "Write 3"])
    assert.deepStrictEqual(order.slice(0, 2).toSorted(), ["Read 0", "Read 1"])
    yield* isFree(kv, "l")
  }),

  test("a writer enters after the readers ahead of it, however many come after", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const order: Array<string> = []
    const ahead = yield* hold(kv, "Read", "l")
    const writer = yield* enter(kv, "Write", "l", Effect.sync(() => order.push("writer")))
    const readers = []
    for (let i = 0; i < 6; i++) {
      readers.push(yield* enter(clients[i % 3]!, "Read", "l", Effect.sync(() => order.push("reader"))))
    }
    assert.deepStrictEqual(order, [])
    yield* ahead.release
    yield* promptly("all have run", Fiber.joinAll([writer, ...readers]))
    assert.strictEqual(order[0], "writer")
  }),

  test("a waiter looks at most once for each wake, and a release wakes only those behind it", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* hold(client, "Read", "keeps-the-session")
    const holder = yield* hold(kv, "Write", "l")
    const waiters = []
    for (const mode of ["Read", "Read", "Write", "Read"] as const) {
      waiters.push(yield* enter(client, mode, "l", Effect.void))
    }
    yield* soon("all wait", Effect.sync(() => seen.watches >= 4 && seen.pending === 0))
    seen.calls.length = 0
    yield* holder.release
    yield* promptly("all have run", Fiber.joinAll(waiters))
    const looks = seen.calls.filter((call) =>
      call.op?._tag === "Txn" && !faults.isEntry(call) && !faults.isRemoval(call)
    )
    assert.isAtMost(looks.length, 7, "each of the four looks when it is woken, the writer once for each reader")
    assert.strictEqual(seen.calls.filter(faults.isRemoval).length, 4)
  }),

  test("read-write locks, locks and other names that extend each other do not interfere", function*(kv) {
    // Go's reader of "l" would wait for any key that begins with "l/write".
    for (const key of ["l/writers/1", "l/write-1", "l/write/deeper/1", "l/read/deeper/1", "l/other", "l2/write/1"]) {
      yield* kv.put(key, "x")
    }
    for (const mode of ["Read", "Write", "Read"] as const) yield* (yield* hold(kv, mode, "l")).release
    for (const name of ["l", "l/2", "l3", "l/writers"]) yield* hold(kv, "Write", name)
    assert.strictEqual((yield* contenders(kv, "l")).length, 1)
    for (const name of ["l/2", "l3"]) {
      assert.isTrue(Option.isSome(yield* Effect.scoped(on(kv)(DistLock.tryAcquire(name)))), name)
    }
  }),

  test("a fiber that reads or writes under the same lock again is rejected: there is no upgrade", function*(kv) {
    const barrier = yield* faults.barrier
    const upgrade = DistRwLock.withWriteLock("l")(Effect.void)
    for (const inner of [DistRwLock.withReadLock("l"), DistRwLock.withWriteLock("l")]) {
      for (const outer of [DistRwLock.withReadLock("l"), DistRwLock.withWriteLock("l")]) {
        assert.strictEqual((yield* reasonOf(on(kv)(outer(inner(Effect.void)))))._tag, "InvalidRequest")
      }
    }
    // Two readers try to upgrade: both are rejected at once, and neither waits for the other.
    const both = [kv, yield* newClient].map((client) =>
      on(client)(DistRwLock.withReadLock("l")(Effect.andThen(barrier.stop, reasonOf(upgrade))))
    )
    const fibers = []
    for (const each of both) fibers.push(yield* Effect.forkScoped(each))
    yield* soon("both read", Effect.map(contenders(kv, "l"), (all) => all.length === 2))
    yield* barrier.letGo
    for (const reason of yield* promptly("both end", Fiber.joinAll(fibers))) {
      assert.strictEqual(reason._tag, "InvalidRequest")
    }
    yield* isFree(kv, "l")
  }),

  test("several locks are acquired as one, in one order, so that two clients do not deadlock", function*(kv) {
    const other = yield* newClient
    let together = 0
    const body = Effect.gen(function*() {
      assert.strictEqual(++together, 1)
      yield* kv.get("a")
      together--
    })
    const run = (client: Kv.Kv, locks: DistRwLock.LockSet) =>
      on(client)(body.pipe(DistRwLock.withLocks(locks), Effect.repeat({ times: 9 })))
    yield* promptly(
      "both have run",
      Effect.all([
        run(kv, { read: ["a"], write: ["b"] }),
        run(other, { read: ["b"], write: ["a"] })
      ], { concurrency: 2 })
    )
    const modes = yield* on(kv)(
      Effect.all([DistRwLock.contenders("a"), DistRwLock.contenders("b")]).pipe(
        DistRwLock.withLocks({ read: ["a", "b"], write: ["b"] })
      )
    )
    assert.deepStrictEqual(modes.map((all) => all.map(({ mode }) => mode)), [["Read"], ["Write"]])
    assert.strictEqual(
      (yield* reasonOf(on(kv)(Effect.void.pipe(DistRwLock.withLocks({ read: [] })))))._tag,
      "InvalidRequest"
    )
    assert.strictEqual((yield* reasonOf(on(kv)(Effect.void.pipe(DistRwLock.withReadLock("")))))._tag, "InvalidRequest")
    for (const name of ["a", "b"]) yield* isFree(kv, name)
  }),

  test("the writes of readers and writers are fenced", function*(kv) {
    for (const mode of ["Read", "Write"] as const) {
      const deaf = faults.make()
      const client = yield* faults.newClientWith(deaf)
      deaf.before = (call) => call.kind === "watch" ? faults.unavailable : Effect.void
      const barrier = yield* faults.barrier
      const reasons: Array<string> = []
      const fiber = yield* enter(
        client,
        mode,
        mode,
        Effect.uninterruptible(Effect.gen(function*() {
          yield* client.put("written", "1")
          yield* barrier.stop
          reasons.push((yield* Effect.orDie(reasonOf(client.put("written", "2"))))._tag)
        }))
      )
      yield* promptly("it runs", barrier.reached)
      yield* kv.delete((yield* contenders(kv, mode))[0]!.key)
      yield* barrier.letGo
      failedWith(yield* exitOf("the loss", fiber), "LockLost")
      assert.deepStrictEqual(reasons, ["LockLost"])
      assert.strictEqual(yield* textOf(kv, "written"), "1")
    }
    const { lock } = yield* hold(kv, "Read", "scoped")
    yield* kv.put("written", "3").pipe(DistLock.fenced(lock))
    yield* kv.delete(lock.key)
    failedWith(yield* Effect.exit(kv.put("written", "4").pipe(DistLock.fenced(lock))), "LockLost")
    assert.strictEqual(yield* textOf(kv, "written"), "3")
  }),

  test("the end of one reader's lease does not release another reader", function*(kv) {
    const [a, b] = [yield* newClient, yield* newClient]
    const dead = yield* hold(a, "Read", "l")
    const alive = yield* hold(b, "Read", "l")
    const writer = yield* enter(kv, "Write", "l", Effect.void)
    yield* backendOf(kv).leaseRevoke(Option.getOrThrow((yield* entryOf(kv, dead.lock.key)).lease))
    yield* stillWaits(kv, writer)
    assert.isTrue(yield* alive.lock.isHeld)
    yield* alive.release
    yield* promptly("the writer has run", Fiber.join(writer))
  }),

  waitingTest(
    "an acquisition of a read-write lock that is interrupted at any step leaves nothing behind",
    function*(kv) {
      assert.isAtLeast(yield* atEachStep(kv, "rw-interrupted", recipe("Write"), "interrupted"), 16)
    }
  ),

  waitingTest(
    "an acquisition of a read-write lock that loses a response at any step leaves nothing behind",
    function*(kv) {
      yield* atEachStep(kv, "rw-lost", recipe("Read"), "without a response")
    }
  ),

  waitingTest("a reader that cannot renew is interrupted before a writer enters", function*(kv) {
    const name = "rw/cut-off"
    const cut = faults.make()
    const client = yield* faults.newClientWith(cut)
    let key = ""
    const ended = putWhether(kv, `${name}.ended`, () => Compare.exists(key))
    const reader = yield* enter(
      client,
      "Read",
      name,
      Effect.onInterrupt(Effect.never, () => Fence.unfenced(Effect.orDie(ended))),
      { ttl: "3 seconds" }
    )
    key = (yield* contenders(kv, name))[0]!.key
    const writer = yield* enter(kv, "Write", name, Effect.void)
    cut.before = (call) => call.kind === "leaseKeepAlive" ? faults.unavailable : Effect.void
    failedWith(yield* exitOf("the loss", reader), "LockLost")
    assert.strictEqual(
      yield* textOf(kv, `${name}.ended`),
      "true",
      "it was interrupted before the store deleted its key"
    )
    assert.isTrue(Exit.isSuccess(yield* exitOf("the writer enters", writer)))
  }),

  waitingTest("a key is never put again, because Go orders the queue by mod revision", function*(kv) {
    const name = "rw/denied"
    const denied = faults.make()
    const client = yield* faults.newClientWith(denied)
    const reader = yield* enter(client, "Read", name, Effect.never, { ttl: "3 seconds" })
    const [{ key }] = yield* Effect.map(contenders(kv, name), (all) => [all[0]!] as const)
    denied.before = (call) =>
      call.kind === "leaseKeepAlive" && call.lease === denied.leases[0]
        ? KvErrors.fail(new KvErrors.PermissionDenied({ message: "says a test" }))
        : Effect.void
    failedWith(yield* exitOf("the loss", reader), "LockLost")
    const entry = yield* kv.getEntry(key)
    assert.isTrue(Option.isNone(entry) || entry.value.modRevision === entry.value.createRevision)
    assert.strictEqual(denied.calls.filter(faults.isEntry).length, 1)
  }),

  waitingTest(
    "a waiter for a read-write lock that times out or is lost leaves no key, and the others keep their places",
    function*(kv) {
      const name = "rw/timeout"
      const holder = yield* hold(kv, "Write", name)
      const [first, second] = [yield* newClient, yield* newClient]
      // Long enough for the others to queue behind it.
      const timesOut = yield* enter(first, "Write", name, Effect.void, { acquireTimeout: "5 seconds" })
      const lost = yield* enter(second, "Read", name, Effect.die("must not run"))
      const last = yield* enter(kv, "Read", name, Effect.void)
      failedWith(yield* exitOf("the timeout", timesOut), "LockTimeout")
      const waiter = (yield* contenders(kv, name))[1]!
      yield* backendOf(kv).leaseRevoke(Option.getOrThrow(waiter.lease))
      failedWith(yield* exitOf("the loss", lost), "LockLost")
      assert.isUndefined(last.pollUnsafe())
      yield* holder.release
      assert.isTrue(Exit.isSuccess(yield* exitOf("the last runs", last)))
      yield* isFree(kv, name)
    }
  )
])
