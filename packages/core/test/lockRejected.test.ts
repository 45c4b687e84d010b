/**
 * Releases and renewals that the store rejects, as it does when a permission was revoked while a lock was held.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Slot from "@effect-kv/core/Slot"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

const denied = KvError.fail(new KvError.PermissionDenied({ message: "permission denied" }))

/** A client that may not remove the key of the lock `rejected`, and another client of the same store. */
const open = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const backend = yield* store.connect
  const seen = { removals: 0, rejects: true, warnings: Array<Record<string, unknown>>() }
  const logger = Logger.make<unknown, void>(({ fiber, logLevel }) => {
    if (logLevel === "Warn") seen.warnings.push({ ...fiber.getRef(References.CurrentLogAnnotations) })
  })
  const kv = yield* Kv.make({
    ...backend,
    execute: (op) => {
      const removal = op._tag === "Txn" ? op.then.find((inner) => inner._tag === "Delete") : undefined
      if (removal?.range._tag !== "Key" || !removal.range.key.startsWith("rejected/")) return backend.execute(op)
      return Effect.suspend(() => {
        seen.removals++
        return seen.rejects ? denied : backend.execute(op)
      })
    }
  })
  return { kv, other: yield* Kv.make(yield* store.connect), seen, logging: Effect.provide(Logger.layer([logger])) }
})

const hold = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const scope = yield* Scope.make()
  const lock = yield* on(kv)(Scope.provide(DistLock.acquire(name), scope))
  return { lock, release: Scope.close(scope, Exit.void) }
})

const isFree = (kv: Kv.Kv, name: string) => Effect.scoped(on(kv)(Effect.map(DistLock.tryAcquire(name), Option.isSome)))

/** A client of a store that is full until `seen.isFull` is false: it accepts neither puts nor leases. */
const openFull = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const backend = yield* store.connect
  const seen = { isFull: false }
  const full = KvError.fail(new KvError.QuotaExceeded({ message: "database space exceeded" }))
  const kv = yield* Kv.make({
    ...backend,
    execute: (op) =>
      Effect.suspend(() =>
        seen.isFull && (op._tag === "Put" || op._tag === "Txn" && op.then.some((inner) => inner._tag === "Put"))
          ? full
          : backend.execute(op)
      ),
    leaseGrant: (options) => Effect.suspend(() => seen.isFull ? full : backend.leaseGrant(options))
  })
  return { kv, other: yield* Kv.make(yield* store.connect), seen }
})

describe("a release that writes, in a store that is full", () => {
  it.effect("of a run records the outcome once there is room, also if its session has other users", () =>
    Effect.gen(function*() {
      const { kv, other, seen } = yield* openFull
      yield* hold(kv, "kept")
      const run = yield* Effect.forkChild(
        on(kv)(RunOnce.forKey("job", () =>
          Effect.sync(() => {
            seen.isFull = true
            return "result"
          })))
      )
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(run.pollUnsafe(), "it waits until its outcome is recorded")
      seen.isFull = false
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(run.pollUnsafe(), Exit.succeed(Option.some("result")))
      assert.strictEqual(Option.getOrThrow(yield* on(other)(RunOnce.status("job"))).state, "Done")
    }))

  it.effect("of a slot begins its cool-down once there is room", () =>
    Effect.gen(function*() {
      const { kv, other, seen } = yield* openFull
      const options = { size: 2, coolDown: "5 seconds" } as const
      yield* on(kv)(Slot.acquire("ids", options))
      const scope = yield* Scope.make()
      yield* on(kv)(Scope.provide(Slot.acquire("ids", options), scope))
      seen.isFull = true
      yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 minute")
      assert.isTrue(Option.isSome(yield* other.getEntry("ids/slots/1")))
      seen.isFull = false
      yield* TestClock.adjust("1 second")
      assert.isTrue(Option.isNone(yield* other.getEntry("ids/slots/1")))
      assert.isTrue(Option.isSome(yield* other.getEntry("ids/slots/1/cooling")))
      yield* TestClock.adjust("6 seconds")
      assert.isTrue(Option.isNone(yield* other.getEntry("ids/slots/1/cooling")))
    }))
})

describe("a release that the store rejects", () => {
  it.effect("is repeated a few times, then logged once, and the other locks of its session stay held until they are released", () =>
    Effect.gen(function*() {
      const { kv, logging, other, seen } = yield* open
      yield* Effect.gen(function*() {
        const rejected = yield* hold(kv, "rejected")
        const kept = yield* hold(kv, "kept")
        const lease = Option.getOrThrow(Option.getOrThrow(yield* kv.getEntry(kept.lock.key)).lease)
        const releasing = yield* Effect.forkChild(rejected.release)
        yield* TestClock.adjust("1 second")
        assert.isDefined(releasing.pollUnsafe(), "the scope does not wait for a rejected release")
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(seen.removals, 6)
        assert.strictEqual(seen.warnings.length, 1)
        assert.deepInclude(seen.warnings[0], { key: rejected.lock.key, lease: lease.toString(16) })
        assert.isTrue(yield* kept.lock.isHeld, "the session is renewed as long as others use it")
        assert.isFalse(yield* isFree(other, "rejected"))

        const next = yield* hold(kv, "next")
        const nextLease = Option.getOrThrow(yield* kv.getEntry(next.lock.key)).lease
        assert.notDeepEqual(nextLease, Option.some(lease), "the next lock has another session")
        yield* kept.release
        yield* TestClock.adjust("1 second")
        assert.isTrue(yield* isFree(other, "rejected"), "the lease ended with the last user of the session")
        assert.isTrue(yield* next.lock.isHeld)
        assert.strictEqual(seen.warnings.length, 1)
        yield* next.release
      }).pipe(logging)
    }))

  it.effect("succeeds if the permission is restored in time", () =>
    Effect.gen(function*() {
      const { kv, logging, other, seen } = yield* open
      yield* Effect.gen(function*() {
        yield* hold(kv, "kept")
        const rejected = yield* hold(kv, "rejected")
        const releasing = yield* Effect.forkChild(rejected.release)
        yield* TestClock.adjust("3 seconds")
        assert.isDefined(releasing.pollUnsafe())
        seen.rejects = false
        yield* TestClock.adjust("10 seconds")
        assert.isTrue(yield* isFree(other, "rejected"))
        assert.strictEqual(seen.warnings.length, 0)
      }).pipe(logging)
    }))

  it.effect("does not delay other releases", () =>
    Effect.gen(function*() {
      const { kv, logging, other } = yield* open
      yield* Effect.gen(function*() {
        const rejected = yield* hold(kv, "rejected")
        yield* Effect.forkChild(rejected.release)
        yield* TestClock.adjust("2 seconds")
        for (const name of ["a", "b"]) yield* on(kv)(DistLock.withDistLock(Effect.void, name))
        for (const name of ["a", "b"]) assert.isTrue(yield* isFree(other, name))
      }).pipe(logging)
    }))
})

describe("a session whose renewal the store denies", () => {
  it.effect("keeps the locks whose keys may still be written: they move to another session and keep their tokens", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const backend = yield* store.connect
      const leases: Array<bigint> = []
      let lostResponses = 0
      const kv = yield* Kv.make({
        ...backend,
        leaseGrant: (options) => {
          leases.push(options.id!)
          return backend.leaseGrant(options)
        },
        leaseKeepAlive: (id) => id === leases[0] ? denied : backend.leaseKeepAlive(id),
        execute: (op) => {
          const put = op._tag === "Txn" && op.if[0]?.target === "CreateRevision" ? op.then[0] : undefined
          if (put?._tag !== "Put" || leases.length < 2) return backend.execute(op)
          if (put.key.startsWith("denied/")) return denied
          // The first move is applied, but its response is lost.
          return lostResponses++ > 0 ? backend.execute(op) : Effect.andThen(
            backend.execute(op),
            KvError.fail(new KvError.Indeterminate({ message: "the response was lost" }))
          )
        }
      })
      const other = yield* Kv.make(yield* store.connect)
      const kept = yield* hold(kv, "kept")
      const lost = yield* hold(kv, "denied")
      const waiting = yield* Effect.forkChild(
        on(kv)(DistLock.use("kept", (lock) => Effect.succeed(lock.token)))
      )
      yield* TestClock.adjust("1 minute")
      assert.isAbove(lostResponses, 1)
      assert.isTrue(yield* kept.lock.isHeld)
      assert.isFalse(yield* lost.lock.isHeld)
      const entry = Option.getOrThrow(yield* other.getEntry(kept.lock.key))
      assert.strictEqual(entry.createRevision, kept.lock.token)
      assert.deepStrictEqual(entry.lease, Option.some(leases[1]!))
      assert.isTrue(yield* isFree(other, "denied"))
      const fenced = DistLock.fence(kv, kept.lock)
      yield* fenced.put("written", "1")
      yield* kept.release
      yield* TestClock.adjust("1 second")
      assert.isTrue((yield* Fiber.join(waiting)) > kept.lock.token, "the waiter's key moved too")
      yield* lost.release
      yield* TestClock.adjust("2 seconds")
      const { keys, leases: left } = yield* store.statistics
      assert.deepStrictEqual({ keys, left }, { keys: 1, left: 0 })
    }))
})
