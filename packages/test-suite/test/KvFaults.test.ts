/**
 * Tests of `KvFaults`: what its faults do to a client, and what they leave alone.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { backendOf, watcherOf } from "@effect-kv/core/KvInternals"
import * as Lease from "@effect-kv/core/Lease"
import * as Op from "@effect-kv/core/Op"
import * as TempKey from "@effect-kv/core/TempKey"
import type { WatchRequest } from "@effect-kv/core/Watch"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { clients, isDone, reasonOf, settle } from "./faultyClients.ts"

describe("KvFaults, calls", () => {
  it.effect("a call that is not sent changes nothing and is Unavailable", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      yield* faults.inject(KvFaults.unavailable)
      assert.strictEqual(yield* reasonOf(kv.put("k", "1")), "Unavailable")
      assert.deepStrictEqual(yield* other.get("k"), Option.none())
      yield* kv.put("k", "2")
      assert.deepStrictEqual(yield* other.get("k"), Option.some("2"))
    }))

  it.effect("a fault selects calls by a condition, nth and times", () =>
    Effect.gen(function*() {
      const { faults, kv } = yield* clients
      const injection = yield* faults.inject(KvFaults.unavailable, {
        when: KvFaults.writes("k"),
        nth: 2,
        times: 2
      })
      const put = (key: string) => Effect.map(Effect.exit(kv.put(key, "v")), Exit.isSuccess)
      assert.deepStrictEqual(
        [yield* put("k"), yield* put("l"), yield* put("k"), yield* put("k"), yield* put("k")],
        [true, true, false, false, true]
      )
      assert.strictEqual(yield* injection.count, 2)
      yield* injection.struck
      const all = yield* faults.inject(KvFaults.unavailable, { times: Infinity })
      assert.deepStrictEqual([yield* put("k"), yield* put("l")], [false, false])
      yield* all.remove
      assert.isTrue(yield* put("k"))
      assert.deepStrictEqual(
        (yield* faults.injected).map(({ description }) => description),
        Array.from({ length: 4 }, () => "unavailable")
      )
    }))

  it.effect("writes and reads find a key in a transaction and behind a fence", () =>
    Effect.gen(function*() {
      const { faults, kv } = yield* clients
      const injection = yield* faults.inject(KvFaults.unavailable, { when: KvFaults.writes("k"), times: Infinity })
      yield* Effect.ignore(kv.txn({ else: [Op.txn({ then: [Op.delete("k")] })] }))
      yield* Effect.ignore(
        Kv.put("k", "v").pipe(DistLock.withDistLock("lock"), Effect.provideService(Kv.Kv, kv))
      )
      yield* kv.txn({ then: [Op.get("k"), Op.put("l", "v")] })
      assert.strictEqual(yield* injection.count, 2)
    }))

  for (
    const [title, fault, applied] of [
      ["was", KvFaults.loseResponse, true],
      ["was not", KvFaults.loseRequest, false]
    ] as const
  ) {
    it.effect(`a write with "${fault.description}" is Indeterminate, and it ${title} applied`, () =>
      Effect.gen(function*() {
        const { faults, kv, other } = yield* clients
        yield* faults.inject(fault)
        assert.strictEqual(yield* reasonOf(kv.put("k", "1")), "Indeterminate")
        assert.strictEqual(Option.isSome(yield* other.get("k")), applied)
      }))

    it.effect(`a write with "${fault.description} silently" is Indeterminate at its deadline`, () =>
      Effect.gen(function*() {
        const { faults, kv, other } = yield* clients
        yield* faults.inject(KvFaults.silently(fault))
        const fiber = yield* Effect.forkChild(reasonOf(kv.put("k", "1").pipe(Deadline.within("2 seconds"))))
        yield* TestClock.adjust("1999 millis")
        assert.isFalse(isDone(fiber))
        assert.strictEqual(Option.isSome(yield* other.get("k")), applied)
        yield* TestClock.adjust("1 millis")
        assert.strictEqual(yield* Fiber.join(fiber), "Indeterminate")
      }))

    it.effect(`a read with "${fault.description}" is retried; if it is silent, the read ends at its deadline`, () =>
      Effect.gen(function*() {
        const { faults, kv } = yield* clients
        yield* kv.put("k", "1")
        yield* faults.inject(fault)
        assert.deepStrictEqual(yield* kv.get("k"), Option.some("1"))
        yield* faults.inject(KvFaults.silently(fault))
        const fiber = yield* Effect.forkChild(reasonOf(kv.get("k")))
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual(yield* Fiber.join(fiber), "DeadlineExceeded")
      }))
  }

  it.effect("a write that is applied late is Indeterminate at once, and applied later", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      yield* faults.inject(KvFaults.applyLate("1 minute"))
      assert.strictEqual(yield* reasonOf(kv.put("k", "late")), "Indeterminate")
      yield* kv.put("k", "in between")
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(yield* other.get("k"), Option.some("in between"))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* other.get("k"), Option.some("late"))
    }))

  it.effect("a delayed write gets its response before its deadline, or is applied after it", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      yield* faults.inject(KvFaults.delayRequest("3 seconds"))
      yield* faults.inject(KvFaults.delayResponse("3 seconds"))
      yield* faults.inject(KvFaults.delayRequest("7 seconds"))
      const fibers = yield* Effect.forEach(
        ["1", "2", "3"],
        (value) => Effect.forkChild(Effect.result(kv.put(`k/${value}`, value)))
      )
      const there = Effect.map(other.range(KeyRange.all), ({ entries }) => entries.map((entry) => entry.lossyText))
      yield* settle
      assert.deepStrictEqual(yield* there, ["2"])
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* there, ["1", "2"])
      yield* TestClock.adjust("2 seconds")
      const results = yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(results.map((result) => result._tag), ["Success", "Success", "Failure"])
      assert.deepStrictEqual(yield* there, ["1", "2"])
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* there, ["1", "2", "3"])
    }))

  it.effect("a request that was sent arrives even if its caller is interrupted", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      const hold = yield* faults.hold("request", { when: KvFaults.writes("k") })
      const fiber = yield* Effect.forkChild(kv.put("k", "1"))
      yield* hold.reached
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* other.get("k"), Option.none())
      yield* hold.letGo
      yield* settle
      assert.deepStrictEqual(yield* other.get("k"), Option.some("1"))
    }))

  it.effect("the response to a call can be held", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      const hold = yield* faults.hold("response")
      const fiber = yield* Effect.forkChild(kv.put("k", "1"))
      yield* hold.reached
      assert.deepStrictEqual(yield* other.get("k"), Option.some("1"))
      assert.isFalse(isDone(fiber))
      yield* hold.letGo
      yield* Fiber.join(fiber)
    }))

  it.effect("a call that the store rejects fails with the reason of the store", () =>
    Effect.gen(function*() {
      const { faults, kv } = yield* clients
      yield* faults.inject(KvFaults.delayRequest(0), { times: Infinity })
      assert.strictEqual(yield* reasonOf(kv.put("", "v")), "InvalidRequest")
      assert.strictEqual(yield* reasonOf(backendOf(kv).leaseKeepAlive(7n)), "LeaseNotFound")
    }))
})

describe("KvFaults, partitions", () => {
  it.effect("calls of a partitioned client end at their deadlines, and none was executed", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      yield* faults.partition()
      const fibers = yield* Effect.forEach(
        [
          kv.put("k", "1"),
          kv.get("k"),
          backendOf(kv).leaseGrant({ ttl: "10 seconds" }),
          backendOf(kv).leaseKeepAlive(1n),
          Effect.scoped(kv.subscribe(KeyRange.key("k")))
        ],
        (call) => Effect.forkChild(reasonOf(call as Effect.Effect<unknown, KvError.KvError, Scope.Scope>))
      )
      yield* TestClock.adjust("4999 millis")
      assert.isFalse(fibers.some(isDone))
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(
        yield* Effect.forEach(fibers, Fiber.join),
        ["Indeterminate", "DeadlineExceeded", "Indeterminate", "DeadlineExceeded", "DeadlineExceeded"]
      )
      yield* faults.heal
      yield* settle
      assert.strictEqual(yield* other.count(KeyRange.all), 0)
      yield* kv.put("k", "2")
    }))

  it.effect("with `late`, requests sent during a partition are executed after it", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      yield* faults.partition({ requests: "late" })
      const given = yield* Effect.forkChild(reasonOf(kv.put("a", "1").pipe(Deadline.within("1 second"))))
      const patient = yield* Effect.forkChild(kv.put("b", "2").pipe(Deadline.within("1 minute")))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* Fiber.join(given), "Indeterminate")
      assert.strictEqual(yield* other.count(KeyRange.all), 0)
      yield* faults.heal
      yield* Fiber.join(patient)
      assert.strictEqual(yield* other.count(KeyRange.all), 2)
    }))

  it.effect("with `refused`, calls are Unavailable at their deadline, or executed after the heal", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      yield* faults.partition({ requests: "refused" })
      const given = yield* Effect.forkChild(reasonOf(kv.put("a", "1").pipe(Deadline.within("1 second"))))
      const patient = yield* Effect.forkChild(kv.put("b", "2").pipe(Deadline.within("1 minute")))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* Fiber.join(given), "Unavailable")
      yield* faults.heal
      yield* Fiber.join(patient)
      assert.deepStrictEqual((yield* other.range(KeyRange.all)).entries.map((entry) => entry.key), ["b"])
    }))

  it.effect("a partitioned holder is interrupted before the store deletes its key", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      const held = yield* Deferred.make<void>()
      const holder = yield* Effect.andThen(Deferred.succeed(held, undefined), Effect.never).pipe(
        DistLock.withDistLock("l", { ttl: "9 seconds" }),
        Effect.provideService(Kv.Kv, kv),
        Effect.flip,
        Effect.forkChild
      )
      yield* Deferred.await(held)
      yield* TestClock.adjust("1 minute")
      assert.isFalse(isDone(holder), "the session is renewed")
      yield* faults.partition()
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual((yield* Fiber.join(holder))._tag, "LockLost")
      yield* TestClock.adjust("1 second")
      yield* Effect.void.pipe(DistLock.withDistLock("l"), Effect.provideService(Kv.Kv, other))
    }))

  for (const requests of ["lost", "late", "refused"] as const) {
    it.effect(`a partitioned client whose requests are ${requests} can be closed`, () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const { faults, kv, store } = yield* Scope.provide(clients, scope)
        yield* Effect.provideService(TempKey.make("t"), Kv.Kv, kv)
        yield* faults.hold("request", { when: KvFaults.isWrite, times: Infinity })
        yield* faults.partition({ requests })
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        yield* settle
        assert.isTrue(isDone(closing))
        const { keys, leases } = yield* store.statistics
        assert.deepStrictEqual({ keys, leases }, { keys: 0, leases: 0 })
      }))
  }
})

describe("KvFaults, locks and leases", () => {
  for (const by of ["lease", "key"] as const) {
    it.effect(`loseLock ends a lock by its ${by}`, () =>
      Effect.gen(function*() {
        const { faults, kv, other } = yield* clients
        const held = yield* Deferred.make<DistLock.Lock>()
        const holder = yield* DistLock.use("l", (lock) => Effect.andThen(Deferred.succeed(held, lock), Effect.never), {
          description: "me"
        }).pipe(Effect.provideService(Kv.Kv, kv), Effect.flip, Effect.forkChild)
        const lock = yield* Deferred.await(held)
        yield* TestClock.adjust("1 second")
        const loser = yield* faults.loseLock("l", by)
        assert.deepStrictEqual([loser.key, loser.token, loser.description], [lock.key, lock.token, "me"])
        assert.deepStrictEqual(
          yield* DistLock.holder("l").pipe(Effect.provideService(Kv.Kv, other)),
          Option.none()
        )
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* Fiber.join(holder))._tag, "LockLost")
      }))
  }

  it.effect("loseLock of a lock that is not held is a defect", () =>
    Effect.gen(function*() {
      const { faults } = yield* clients
      assert.isTrue(Exit.hasDies(yield* Effect.exit(faults.loseLock("l"))))
    }))

  it.effect("after endLease, temporary keys are re-created on another lease", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      yield* Effect.provideService(TempKey.make("t"), Kv.Kv, kv)
      const [lease, ...more] = yield* faults.leases
      assert.deepStrictEqual(more, [])
      yield* faults.endLease(lease!)
      assert.deepStrictEqual(yield* other.get("t"), Option.none())
      assert.deepStrictEqual(yield* faults.leases, [])
      yield* TestClock.adjust("5 seconds")
      const again = Option.getOrThrow(Option.getOrThrow(yield* other.getEntry("t")).lease)
      assert.deepStrictEqual(yield* faults.leases, [again])
      assert.strictEqual(yield* reasonOf(faults.endLease(lease!)), "LeaseNotFound")
    }))

  it.effect("leases include one whose grant got no response", () =>
    Effect.gen(function*() {
      const { faults, kv } = yield* clients
      yield* faults.inject(KvFaults.loseResponse)
      assert.strictEqual(yield* reasonOf(backendOf(kv).leaseGrant({ ttl: 9, id: 5n })), "Indeterminate")
      assert.deepStrictEqual(yield* faults.leases, [5n])
      yield* Lease.revoke(5n).pipe(Effect.provideService(Kv.Kv, kv))
      assert.deepStrictEqual(yield* faults.leases, [])
    }))
})

describe("KvFaults, injected", () => {
  it.effect("injected lists all faults in order", () =>
    Effect.gen(function*() {
      const { faults, kv } = yield* clients
      yield* kv.subscribe(KeyRange.key("k"))
      yield* DistLock.acquire("l").pipe(Effect.provideService(Kv.Kv, kv))
      yield* TestClock.adjust(0)
      const [lease] = yield* faults.leases
      const hold = yield* faults.hold("response", { when: KvFaults.writes("k") })
      const putting = yield* Effect.forkChild(kv.put("k", "1"))
      yield* hold.reached
      yield* hold.letGo
      yield* Fiber.join(putting)
      yield* faults.cutWatches({ duration: "1 second" })
      yield* faults.loseLock("l")
      assert.strictEqual(yield* reasonOf(faults.endLease(lease!)), "LeaseNotFound")
      const second = yield* backendOf(kv).leaseGrant({ ttl: "10 seconds", id: 17n })
      yield* faults.endLease(second.id)
      yield* faults.partition({ requests: "late" })
      yield* faults.partition({ requests: "refused" })
      yield* faults.heal
      yield* faults.heal
      assert.deepStrictEqual(
        (yield* faults.injected).map(({ call, description }) => `${call?.kind ?? "-"} ${description}`),
        [
          "execute response held",
          "- watches cut for 1000 ms",
          "- lock l lost by its lease",
          "- lease 11 ended",
          "- partitioned, requests are late",
          "- partitioned, requests are refused",
          "- healed"
        ]
      )
    }))

  it.effect("leases exclude ended ones, and random faults end live ones", () =>
    Effect.gen(function*() {
      const { faults, kv } = yield* clients
      for (let i = 0; i < 5; i++) yield* backendOf(kv).leaseGrant({ ttl: "2 seconds" })
      yield* TestClock.adjust("1 minute")
      yield* faults.randomly({ seed: 2, endLease: 1 })
      yield* kv.get("a")
      assert.deepStrictEqual([yield* faults.leases, yield* faults.injected], [[], []])
      yield* faults.calm
      for (let i = 0; i < 5; i++) yield* backendOf(kv).leaseGrant({ ttl: "2 seconds" })
      yield* TestClock.adjust("1 minute")
      yield* backendOf(kv).leaseGrant({ ttl: "2 seconds", id: 17n })
      yield* faults.randomly({ seed: 2, endLease: 1 })
      yield* kv.get("a")
      assert.deepStrictEqual((yield* faults.injected).map(({ description }) => description), ["lease 11 ended"])
    }))
})

describe("KvFaults, invalid options", () => {
  const isDefect = (what: (faults: KvFaults.KvFaults) => Effect.Effect<unknown>) =>
    Effect.gen(function*() {
      const { faults } = yield* clients
      assert.isTrue(Exit.hasDies(yield* Effect.exit(what(faults))))
    })

  for (const where of [{ nth: 0 }, { nth: 1.5 }, { nth: NaN }, { times: 0 }, { times: -1 }, { times: NaN }]) {
    it.effect(`inject with ${JSON.stringify(where)} is a defect`, () =>
      isDefect((faults) => faults.inject(KvFaults.unavailable, where)))
  }

  for (
    const options of [
      { seed: 1, unavailable: 5 },
      { seed: 1, delay: -0.1 },
      { seed: 1, endLease: NaN },
      { seed: 1.5 },
      { seed: 1, maxDelay: 0 },
      { seed: 1, maxDelay: Infinity }
    ]
  ) {
    it.effect(`randomly with ${Object.entries(options).map(([name, value]) => `${name} ${value}`).join(", ")} is a defect`, () =>
      isDefect((faults) => faults.randomly(options)))
  }

  it.effect("a hold of zero calls is a defect", () => isDefect((faults) => faults.hold("request", { times: 0 })))
})

describe("KvFaults, watches", () => {
  it.effect("a cut watch misses no event, and its status reports the cut", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      const watch = yield* kv.subscribe(KeyRange.prefix("k/"))
      const statuses: Array<string> = []
      yield* watch.status.pipe(
        Stream.runForEach(({ _tag }) => Effect.sync(() => statuses.push(_tag))),
        Effect.forkScoped
      )
      const seen: Array<string> = []
      yield* watch.events.pipe(
        Stream.runForEach(({ key }) => Effect.sync(() => seen.push(key))),
        Effect.forkScoped
      )
      for (let i = 0; i < 30; i++) {
        if (i % 7 === 3) assert.strictEqual(yield* faults.cutWatches({ duration: "1 second" }), 1)
        if (i % 7 === 5) yield* TestClock.adjust("1 second")
        yield* other.put(`k/${i}`, "v")
        if (i % 3 === 0) yield* settle
      }
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(seen, Array.from({ length: 30 }, (_, i) => `k/${i}`))
      assert.deepStrictEqual(statuses, [
        "Live",
        ...Array.from({ length: 4 }, () => ["Interrupted", "Live"]).flat()
      ])
      assert.strictEqual(yield* faults.cutWatches({ when: (request) => request.previous === true }), 0)
    }))

  it.effect("a watch that is cut while the history is compacted fails with Compacted", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      const watch = yield* kv.subscribe(KeyRange.key("k"))
      yield* other.put("elsewhere", "1")
      yield* faults.cutWatches({ compacted: true })
      const error = yield* Effect.flip(watcherOf(watch).take)
      assert.strictEqual(error.reason._tag, "Compacted")
      const revision = error.reason._tag === "Compacted" ? Option.getOrThrow(error.reason.compactRevision) : 0n
      assert.strictEqual(revision, (yield* other.put("k", "1")).revision - 1n)
      const again = yield* kv.subscribe(KeyRange.key("k"), { startRevision: revision + 1n })
      assert.lengthOf(yield* watcherOf(again).take, 1)
      assert.strictEqual(yield* reasonOf(watcherOf(watch).take), "Compacted")
    }))

  it.effect("a watch that is cut with a failure fails with that reason after the duration", () =>
    Effect.gen(function*() {
      const { faults, kv, store } = yield* clients
      const watch = yield* kv.subscribe(KeyRange.key("k"))
      const taking = yield* Effect.forkChild(reasonOf(watcherOf(watch).take))
      const failure = new KvError.PermissionDenied({ message: "withdrawn" })
      assert.strictEqual(yield* faults.cutWatches({ duration: "1 second", failure }), 1)
      yield* settle
      assert.isFalse(isDone(taking))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(taking), "PermissionDenied")
      assert.strictEqual(yield* reasonOf(watcherOf(watch).take), "PermissionDenied")
      assert.strictEqual((yield* store.statistics).watches, 0)
      assert.include((yield* faults.injected)[0]!.description, "failed with PermissionDenied")
    }))

  it.effect("a watch that is cut with a compaction does not fail before it has missed an event", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      const watch = yield* kv.subscribe(KeyRange.key("k"))
      const taking = yield* Effect.forkChild(reasonOf(watcherOf(watch).take))
      yield* faults.cutWatches({ compacted: true })
      yield* settle
      assert.isFalse(isDone(taking))
      yield* other.put("k", "1")
      yield* settle
      assert.strictEqual(yield* Fiber.join(taking), "Compacted")
    }))

  it.effect("a partition cuts a watch, which continues after the heal", () =>
    Effect.gen(function*() {
      const { faults, kv, other } = yield* clients
      const watch = yield* kv.subscribe(KeyRange.key("k"))
      yield* faults.partition()
      yield* other.put("k", "1")
      const taking = yield* Effect.forkChild(watcherOf(watch).take)
      yield* TestClock.adjust("1 hour")
      assert.isFalse(isDone(taking))
      yield* faults.heal
      assert.lengthOf(yield* Fiber.join(taking), 1)
    }))

  it.effect("a watch that is cut during a call resumes independently of the deadline of the call", () =>
    Effect.gen(function*() {
      const { other, store } = yield* clients
      const backend = yield* store.connect
      const within: Array<Duration.Duration | undefined> = []
      const faults = yield* KvFaults.make({
        ...backend,
        watch: (request) =>
          Effect.flatMap(Deadline.Deadline, (deadline) => {
            within.push(deadline)
            return backend.watch(request)
          })
      })
      const watch = yield* faults.kv.subscribe(KeyRange.key("k"))
      yield* faults.inject(
        { description: "cut", onRequest: Effect.asVoid(faults.cutWatches()) },
        { when: KvFaults.writes("l") }
      )
      yield* faults.kv.put("l", "1").pipe(Deadline.within("1 millis"))
      yield* other.put("k", "1")
      assert.lengthOf(yield* watcherOf(watch).take, 1)
      assert.deepStrictEqual(within, [undefined, undefined])
    }))

  it.effect("a watch that is opened as the partition begins is cut as well", () =>
    Effect.gen(function*() {
      const { other, store } = yield* clients
      const backend = yield* store.connect
      const slow = { ...backend, watch: (request: WatchRequest) => Effect.delay(backend.watch(request), "1 second") }
      const faults = yield* KvFaults.make(slow)
      const opening = yield* Effect.forkScoped(faults.kv.subscribe(KeyRange.key("k")))
      yield* TestClock.adjust("500 millis")
      yield* faults.partition()
      yield* TestClock.adjust("500 millis")
      const watch = yield* Fiber.join(opening)
      const taking = yield* Effect.forkChild(watcherOf(watch).take)
      yield* other.put("k", "1")
      yield* TestClock.adjust("1 minute")
      assert.isFalse(isDone(taking))
      yield* faults.heal
      yield* TestClock.adjust("1 second")
      assert.lengthOf(yield* Fiber.join(taking), 1)
    }))

  it.effect("a watch that is reconnected as the partition begins gets no events until the heal", () =>
    Effect.gen(function*() {
      const { other, store } = yield* clients
      const backend = yield* store.connect
      const slow = { ...backend, watch: (request: WatchRequest) => Effect.delay(backend.watch(request), "1 second") }
      const faults = yield* KvFaults.make(slow)
      const opening = yield* Effect.forkScoped(faults.kv.subscribe(KeyRange.key("k")))
      yield* TestClock.adjust("1 second")
      const watch = yield* Fiber.join(opening)
      yield* faults.cutWatches()
      yield* TestClock.adjust("500 millis")
      yield* faults.partition()
      const taking = yield* Effect.forkChild(watcherOf(watch).take)
      yield* other.put("k", "1")
      yield* TestClock.adjust("1 minute")
      assert.isFalse(isDone(taking))
      yield* faults.heal
      yield* settle
      assert.lengthOf(yield* Fiber.join(taking), 1)
    }))

  it.effect("a watch of a client with permissions on its own keys only is reconnected", () =>
    Effect.gen(function*() {
      const { other, store } = yield* clients
      const backend = yield* store.connect
      const received: Array<unknown> = []
      const faults = yield* KvFaults.make({
        ...backend,
        execute: (op) => {
          received.push(op._tag === "Range" ? op.range : op)
          return backend.execute(op)
        }
      })
      const watch = yield* faults.kv.subscribe(KeyRange.prefix("mine/"))
      yield* faults.cutWatches()
      yield* other.put("mine/k", "1")
      assert.lengthOf(yield* watcherOf(watch).take, 1)
      assert.deepStrictEqual(received, [KeyRange.prefix("mine/")])
    }))

  it.effect("a cut watch ends with its scope", () =>
    Effect.gen(function*() {
      const { faults, kv, store } = yield* clients
      const scope = yield* Scope.make()
      const watch = yield* Scope.provide(kv.subscribe(KeyRange.key("k")), scope)
      yield* faults.partition()
      const taking = yield* Effect.forkChild(reasonOf(watcherOf(watch).take))
      yield* settle
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Fiber.join(taking), "Closed")
      assert.strictEqual((yield* store.statistics).watches, 0)
    }))

  it.effect("a watch whose opening loses the response is opened once", () =>
    Effect.gen(function*() {
      const { faults, kv, store } = yield* clients
      yield* faults.inject(KvFaults.loseResponse)
      yield* kv.subscribe(KeyRange.key("k"))
      assert.strictEqual((yield* store.statistics).watches, 1)
      yield* faults.inject({ ...KvFaults.loseResponse, isSilent: true })
      const opening = yield* Effect.forkChild(reasonOf(kv.subscribe(KeyRange.key("k"))))
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Fiber.join(opening), "DeadlineExceeded")
      assert.strictEqual((yield* store.statistics).watches, 1)
    }))
})

describe("KvFaults, random faults", () => {
  const run = (seed: number) =>
    Effect.gen(function*() {
      const { faults, kv } = yield* clients
      yield* faults.randomly({
        seed,
        unavailable: 0.1,
        loseResponse: 0.1,
        loseRequest: 0.1,
        applyLate: 0.1,
        delay: 0.2,
        cutWatches: 0.05,
        endLease: 0.05
      })
      const results = yield* Effect.forkChild(
        Effect.forEach(
          Array.from({ length: 200 }, (_, i) => i),
          (i) => Effect.map(Effect.exit(kv.put(`k/${i}`, "v")), Exit.isSuccess)
        )
      )
      yield* TestClock.adjust("1 minute")
      return {
        results: yield* Fiber.join(results),
        injected: (yield* faults.injected).map(({ description }) => description)
      }
    })

  it.effect("random faults are equal for equal seeds, and differ for others", () =>
    Effect.gen(function*() {
      const [first, second, third] = [yield* run(1), yield* run(1), yield* run(2)]
      assert.deepStrictEqual(first, second)
      assert.notDeepEqual(first, third)
      assert.isAbove(new Set(first.injected).size, 10)
      const failed = first.results.filter((success) => !success).length
      assert.isTrue(failed > 40 && failed < 120, `${failed} of 200 failed, where 4 in 10 were to`)
    }))

  it.effect("calm ends random faults", () =>
    Effect.gen(function*() {
      const { faults, kv } = yield* clients
      yield* faults.randomly({ seed: 1, unavailable: 1 })
      assert.strictEqual(yield* reasonOf(kv.get("k")), "Unavailable")
      yield* faults.calm
      yield* kv.get("k")
    }))
})

it.effect("KvFaults.layer stands between the layer of a backend and a program", () =>
  Effect.gen(function*() {
    const faults = yield* KvFaults.KvFaults
    yield* faults.inject(KvFaults.unavailable, { when: (call) => call.kind === "leaseGrant" })
    assert.strictEqual(yield* reasonOf(Lease.grant({ ttl: "10 seconds" })), "Unavailable")
    yield* Kv.put("k", "v")
  }).pipe(Effect.provide(KvFaults.layer().pipe(Layer.provide(MemoryLayer.layer)))))
