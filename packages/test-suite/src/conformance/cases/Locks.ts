/**
 * Locks: exclusive, acquired in order of arrival, and leaving nothing behind.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as LockError from "@effect-kv/core/LockError"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import { chapter, newClient, promptly, reasonOf, Store, test } from "./Case.ts"
import { entryOf, keysOf } from "./entries.ts"
import * as faults from "./faults.ts"
import {
  contend,
  contenders,
  errorOf,
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
import { insideCounter, section } from "./lockSections.ts"
import * as logging from "./logging.ts"

export const cases = chapter("locks", [
  test("two fibers of one client, or two clients, never hold a lock at the same time", function*(kv) {
    const other = yield* newClient
    const inside = yield* insideCounter
    const work = (kv: Kv.Kv) => Effect.repeat(on(kv)(DistLock.withDistLock(section(kv, inside), "l")), { times: 9 })
    yield* Effect.all([work(kv), work(kv), work(other), work(other)], { concurrency: "unbounded" })
    assert.deepStrictEqual(yield* Ref.get(inside), { now: 0, most: 1, total: 40 })
    yield* isFree(kv, "l")
  }),

  test("waiters acquire a lock one at a time, in order of arrival, each with a larger token", function*(kv) {
    const clients = [kv, yield* newClient, yield* newClient]
    const held = yield* hold(kv, "l")
    const served: Array<number> = []
    const inside = yield* insideCounter
    const waiters: Array<Fiber.Fiber<bigint, DistLock.LockFailure>> = []
    for (let i = 0; i < 5; i++) {
      const client = clients[i % 3]!
      waiters.push(
        yield* contend(client, "l", undefined, (lock) => {
          served.push(i)
          return Effect.as(section(client, inside), lock.token)
        })
      )
    }
    assert.deepStrictEqual(served, [])
    yield* held.release
    const tokens = [held.lock.token, ...(yield* Fiber.joinAll(waiters))]
    assert.deepStrictEqual(served, [0, 1, 2, 3, 4])
    assert.strictEqual((yield* Ref.get(inside)).most, 1)
    assert.deepStrictEqual(tokens, tokens.toSorted((a, b) => Number(a - b)))
    assert.strictEqual(new Set(tokens).size, 6)
    yield* isFree(kv, "l")
  }),

  test("the holder's key is the lock's name, a slash and the lease in hexadecimal, as in Go's Mutex", function*(kv) {
    const { lock, release } = yield* hold(kv, "jobs/nightly", { description: "me, since today" })
    const entry = yield* entryOf(kv, lock.key)
    const lease = Option.getOrThrow(entry.lease)
    assert.strictEqual(lock.key, `jobs/nightly/${lease.toString(16)}`)
    assert.strictEqual(lock.name, "jobs/nightly")
    assert.strictEqual(lock.token, entry.createRevision)
    assert.deepStrictEqual(lock.parts, [{ name: lock.name, key: lock.key, token: lock.token }])
    assert.deepStrictEqual(
      yield* on(kv)(DistLock.holder("jobs/nightly")),
      Option.some({
        key: lock.key,
        token: lock.token,
        lease: Option.some(lease),
        description: "me, since today"
      })
    )
    assert.deepStrictEqual(keysOf(yield* kv.range(KeyRange.all)), [lock.key])
    yield* release
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
    assert.deepStrictEqual(yield* on(kv)(DistLock.holder("jobs/nightly")), Option.none())
  }),

  test("DistLock.waiters returns the waiters of a lock in order", function*(kv) {
    const { release } = yield* hold(kv, "l", { description: "holder" })
    const fibers = []
    for (const description of ["first", "second"]) fibers.push(yield* queue(kv, "l", { description }))
    const waiters = yield* on(kv)(DistLock.waiters("l"))
    assert.deepStrictEqual(waiters.map((waiter) => waiter.description), ["first", "second"])
    assert.isTrue(waiters[0]!.token < waiters[1]!.token)
    yield* release
    yield* Fiber.joinAll(fibers)
  }),

  test("a contender of another program with the same key layout is waited for in its turn", function*(kv) {
    const go = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    yield* kv.put(`l/${go.id.toString(16)}`, "", { lease: go.id })
    assert.isTrue(Option.isNone(yield* Effect.scoped(on(kv)(DistLock.tryAcquire("l")))))
    const waiter = yield* queue(kv, "l")
    yield* backendOf(kv).leaseRevoke(go.id)
    assert.isAbove(Number(yield* Fiber.join(waiter)), 1)
  }),

  test("keys that only share the prefix of the name, or lie further down, do not block a lock", function*(kv) {
    for (const key of ["xyz", "xy", "xyz/1", "x/y", "xy/sub/1"]) yield* kv.put(key, "v")
    const { release } = yield* hold(kv, "xy/sub2")
    const outer = yield* hold(kv, "xy")
    yield* kv.put("xy/sub/2", "v")
    // Now a key further down is between the holder and the next entry.
    const waiter = yield* queue(kv, "xy")
    yield* outer.release
    yield* Fiber.join(waiter)
    yield* release
    assert.strictEqual(yield* kv.count(KeyRange.all), 6)
  }),

  test("another program's key at the place of our entry is waited for and never deleted", function*(kv) {
    const inTheWay = faults.make()
    const client = yield* faults.newClientWith(inTheWay)
    inTheWay.before = (call) =>
      faults.isEntry(call) && inTheWay.leases.length === 1
        ? Effect.orDie(Effect.asVoid(kv.testAndSet(`l/${inTheWay.leases[0]!.toString(16)}`, Option.none(), "foreign")))
        : Effect.void
    const waiter = yield* Effect.forkScoped(
      on(client)(DistLock.use("l", (lock) => Effect.succeed(lock.key)))
    )
    yield* untilContenders(kv, "l", 2)
    const foreign = `l/${inTheWay.leases[0]!.toString(16)}`
    assert.strictEqual((yield* entryOf(kv, foreign)).lossyText, "foreign")
    yield* Fiber.interrupt(waiter)
    assert.strictEqual((yield* entryOf(kv, foreign)).lossyText, "foreign")
    const again = yield* Effect.forkScoped(
      on(client)(DistLock.use("l", (lock) => Effect.succeed(lock.key)))
    )
    yield* untilContenders(kv, "l", 2)
    yield* kv.delete(foreign)
    assert.notStrictEqual(yield* Fiber.join(again), foreign)
  }),

  test("a key without a lease under NAME/ blocks the lock: a warning and LockTimeout name it", function*(kv) {
    const store = yield* Store
    const { layer, logged } = logging.capturing()
    yield* kv.put("l/put-by-hand", "1")
    const waiter = yield* queue(kv, "l", { acquireTimeout: "1 second" }).pipe(Effect.provide(layer))
    yield* soon("the warning", Effect.sync(() => logged.length > 0))
    yield* store.passTime("1 second")
    const error = failedWith(yield* exitOf("the time-out", waiter), "LockTimeout")
    assert.deepStrictEqual(error.blockedBy, Option.some("l/put-by-hand"))
    assert.include(error.message, "\"l/put-by-hand\" has no lease")
    assert.deepStrictEqual(logged.map(({ annotations }) => annotations), [{ lock: "l", key: "l/put-by-hand" }])
    const next = yield* queue(kv, "l")
    yield* kv.delete("l/put-by-hand")
    yield* Fiber.join(next)
    yield* isFree(kv, "l")
  }),

  test("acquireTimeout 0 acquires a free lock and does not wait for a held one", function*(kv) {
    const now = { acquireTimeout: 0 }
    for (let i = 0; i < 10; i++) {
      const client = yield* newClient
      assert.strictEqual(yield* on(client)(DistLock.withDistLock(Effect.succeed(i), ["a", "b"], now)), i)
    }
    yield* hold(kv, "a")
    const error = yield* promptly(
      "the time-out",
      Effect.flip(on(yield* newClient)(DistLock.withDistLock(Effect.void, "a", now)))
    )
    assert.isTrue(error instanceof LockError.LockTimeout)
    assert.deepStrictEqual((error as LockError.LockTimeout).storeFailure, Option.none(), "the store was reachable")
    assert.strictEqual(yield* contenders(kv, "a"), 1)
  }),

  test("an invalid duration is an InvalidRequest, and nothing is sent", function*() {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    for (const option of ["acquireTimeout", "maxHold", "ttl"] as const) {
      for (const time of [-1, Number.NaN, "-1 seconds", Number.NEGATIVE_INFINITY] as const) {
        const options = { [option]: time as Duration.Input }
        const attempts = [
          DistLock.withDistLock(Effect.void, "l", options),
          Effect.scoped(DistLock.acquire("l", options)),
          Effect.scoped(DistLock.tryAcquire("l", options))
        ]
        for (const attempt of attempts) {
          const error = yield* Effect.flip(on(client)(attempt as Effect.Effect<unknown, DistLock.LockFailure, Kv.Kv>))
          assert.strictEqual(error._tag === "KvError" && error.reason._tag, "InvalidRequest")
          assert.include(error.message, `${option} must be a duration`)
        }
      }
    }
    assert.strictEqual(seen.calls.length, 0)
  }),

  test("withLock releases the lock however its effect ends, and returns that exit", function*(kv) {
    const locked = <A, E, R>(effect: Effect.Effect<A, E, R>) => on(kv)(Effect.exit(DistLock.withDistLock(effect, "l")))
    assert.deepStrictEqual(yield* locked(Effect.succeed(42)), Exit.succeed(42))
    yield* isFree(kv, "l")
    assert.deepStrictEqual(yield* locked(Effect.fail("own")), Exit.fail("own"))
    yield* isFree(kv, "l")
    assert.isTrue(Exit.hasDies(yield* locked(Effect.die("defect"))))
    yield* isFree(kv, "l")
    const { body, started } = signalling(Effect.never)
    const fiber = yield* Effect.forkScoped(locked(body))
    yield* started
    yield* Fiber.interrupt(fiber)
    yield* isFree(kv, "l")
    assert.strictEqual(yield* on(kv)(Effect.succeed(1).pipe(DistLock.withDistLock("l"))), 1)
  }),

  test("a released lock reports that it is not held", function*(kv) {
    const { lock, release } = yield* hold(kv, "l")
    assert.isTrue(yield* lock.isHeld)
    const notified = yield* Effect.forkScoped(Effect.flip(lock.lost))
    yield* release
    assert.isFalse(yield* lock.isHeld)
    const error = yield* Fiber.join(notified)
    assert.deepStrictEqual([error._tag, error.lock, error.token], ["LockLost", "l", lock.token])
    const seen = faults.make()
    const stale = DistLock.fence(yield* Kv.make(faults.wrap(seen)(backendOf(kv))), lock)
    assert.strictEqual((yield* reasonOf(stale.put("k", "v")))._tag, "LockLost")
    assert.strictEqual(seen.calls.length, 0, "isHeld sends no request")
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("several locks are acquired as one: all or none, each with its own key", function*(kv) {
    const other = yield* newClient
    const store = yield* Store
    const held = yield* hold(other, "b")
    const both = yield* Effect.forkScoped(on(kv)(DistLock.use(["c", "a", "b", "a"], Effect.succeed)))
    yield* untilContenders(kv, "b", 2)
    assert.strictEqual(yield* contenders(kv, "a"), 1)
    assert.strictEqual(yield* contenders(kv, "c"), 0, "c is not entered before b is acquired")
    const none = yield* Effect.forkScoped(
      on(kv)(Effect.scoped(DistLock.acquire(["b", "d"], { acquireTimeout: "1 second" })))
    )
    yield* untilContenders(kv, "b", 3)
    yield* store.passTime("1 second")
    const error = failedWith(yield* exitOf("the time-out", none), "LockTimeout")
    assert.strictEqual(error.lock, "b, d")
    yield* held.release
    const lock = yield* Fiber.join(both)
    assert.deepStrictEqual(lock.parts.map((one) => one.name), ["a", "b", "c"])
    assert.isFalse(
      "name" in lock || "key" in lock || "token" in lock,
      "several locks have no single name, key and token"
    )
    for (const name of ["a", "b", "c", "d"]) yield* isFree(kv, name)
  }),

  test("acquiring [a, b] and [b, a] concurrently neither deadlocks nor overlaps in a thousand rounds", function*(kv) {
    const other = yield* newClient
    // Keeps a test clock from warning that it is unused.
    yield* Effect.flatMap(Store, (store) => store.passTime("1 milli"))
    const inside = yield* insideCounter
    const work = (kv: Kv.Kv, names: DistLock.LockNames) =>
      Effect.repeat(on(kv)(DistLock.withDistLock(section(kv, inside), names)), { times: 499 })
    yield* Effect.all([work(kv, ["a", "b"]), work(other, ["b", "a"])], { concurrency: "unbounded" })
    assert.deepStrictEqual(yield* Ref.get(inside), { now: 0, most: 1, total: 1000 })
    assert.strictEqual(yield* kv.count(KeyRange.all), 0)
  }),

  test("locks of one name contend in one namespace and not across namespaces", function*(kv) {
    const app = Kv.prefixed(kv, "app/")
    const held = yield* hold(app, "l")
    yield* hold(Kv.prefixed(kv, "other/"), "l")
    yield* hold(kv, "l")
    const same = yield* queue(Kv.prefixed(yield* newClient, "app/"), "l")
    assert.strictEqual(yield* kv.count(KeyRange.prefix("app/l/")), 2)
    yield* held.release
    yield* Fiber.join(same)
  }),

  test("closing the scope of a waiting acquire ends the wait and leaves nothing behind", function*(kv) {
    yield* hold(kv, "l")
    const scope = yield* Scope.make()
    const waiter = yield* Effect.forkScoped(on(kv)(Scope.provide(DistLock.acquire("l"), scope)))
    yield* untilContenders(kv, "l", 2)
    yield* Scope.close(scope, Exit.void)
    failedWith(yield* exitOf("the end of the wait", waiter), "LockLost")
    assert.strictEqual(yield* contenders(kv, "l"), 1)
    const late = yield* Effect.exit(on(kv)(Scope.provide(DistLock.acquire("m"), scope)))
    assert.isDefined(errorOf(late), "a closed scope acquires no lock")
    assert.strictEqual(yield* contenders(kv, "m"), 0)
  }),

  test("with a session open, acquiring a free lock is one transaction and releasing it another", function*(kv) {
    const seen = faults.make()
    const client = yield* faults.newClientWith(seen)
    yield* hold(client, "other")
    seen.calls.length = 0
    for (let i = 0; i < 3; i++) {
      const { lock, release } = yield* hold(client, "l")
      yield* release
      // Conditional on the token, so a late or repeated release cannot affect a later holder.
      const condition = Compare.createRevision(lock.key, "=", lock.token)
      assert.deepStrictEqual(seen.calls.at(-1)!.op, Op.txn({ if: [condition], then: [Op.delete(lock.key)] }))
    }
    assert.deepStrictEqual(seen.calls.map((call) => call.op?._tag ?? call.kind), Array.from({ length: 6 }, () => "Txn"))
    yield* isFree(kv, "l")
  }),

  test("each release wakes one waiter, and a waiter costs a few requests", function*(kv) {
    const name = "wakes-one"
    const held = yield* hold(kv, name)
    const count = 12
    const watched: Array<faults.Faults> = []
    const fibers: Array<Fiber.Fiber<bigint, DistLock.LockFailure>> = []
    const gates: Array<faults.Barrier> = []
    for (let i = 0; i < count; i++) {
      const seen = faults.make()
      const gate = yield* faults.barrier
      const client = yield* faults.newClientWith(seen)
      fibers.push(yield* contend(client, name, { ttl: "1 hour" }, (lock) => Effect.as(gate.stop, lock.token)))
      watched.push(seen)
      gates.push(gate)
    }
    // Plain reads are those of `contend`, which reads the queue with the same client.
    const isStep = (call: faults.Call) => call.op?._tag === "Txn"
    const steps = () => watched.map((seen) => seen.calls.filter(isStep).length)
    // Each has entered the queue and read it: now it waits.
    yield* soon("all wait", Effect.sync(() => steps().every((steps) => steps === 2)))
    yield* held.release
    for (let i = 0; i < count; i++) {
      yield* gates[i]!.reached
      const before = steps()
      yield* gates[i]!.letGo
      yield* Fiber.join(fibers[i]!)
      if (i + 1 < count) yield* gates[i + 1]!.reached
      const others = steps().map((steps, j) => steps - before[j]!).filter((steps, j) => j !== i && steps > 0)
      assert.isAtMost(others.length, 1, "only the next waiter is woken")
    }
    // In its turn it has read the queue again, and finally released the lock.
    assert.deepStrictEqual(steps(), steps().map(() => 4))
    // One watch on the key ahead, and later one on its own key.
    for (const { calls } of watched) assert.isAtMost(calls.filter((call) => call.kind === "watch").length, 2)
    yield* isFree(kv, name)
  })
])
