/**
 * The metrics of calls, sessions, locks and temporary keys, read as an exporter reads them.
 */
import * as Batching from "@effect-kv/core/Batching"
import * as DistLock from "@effect-kv/core/DistLock"
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Election from "@effect-kv/core/Election"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as RunOnce from "@effect-kv/core/RunOnce"
import * as Session from "@effect-kv/core/Session"
import * as Slot from "@effect-kv/core/Slot"
import * as TempKey from "@effect-kv/core/TempKey"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"

const secret = "a-value-that-is-a-secret"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

/** The series of a metric, as `label=value` lines with what a series holds. */
const series = ({ name }: KvMetrics.Definition): Effect.Effect<Readonly<Record<string, unknown>>> =>
  Effect.map(Metric.snapshot, (all) =>
    Object.fromEntries(
      all.filter(({ id }) => id === name).map((one) => [
        Object.entries(one.attributes ?? {}).filter(([label]) => label !== "unit").map(([label, value]) =>
          `${label}=${value}`
        ).join(" "),
        one.type === "Counter" || one.type === "Frequency"
          ? "count" in one.state ? one.state.count : one.state
          : one.type === "Gauge"
          ? one.state.value
          : { count: one.state.count, sum: one.state.sum }
      ])
    ))

/** The series of a counter that have counted something. */
const counted = (counter: KvMetrics.Definition) =>
  Effect.map(series(counter), (all) => Object.fromEntries(Object.entries(all).filter(([, count]) => count !== 0)))

/** Runs a test with a registry of its own. */
const isolated = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))

/** A store, a client of it, and a switch that makes its requests wait or fail. */
const open = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const backend = yield* store.connect
  const gate = Latch.makeUnsafe(true)
  const link: { failure: KvError.Reason | undefined } = { failure: undefined }
  const through = <A, R>(effect: Effect.Effect<A, KvError.KvError, R>): Effect.Effect<A, KvError.KvError, R> =>
    Effect.andThen(
      gate.await,
      Effect.suspend((): Effect.Effect<A, KvError.KvError, R> =>
        link.failure === undefined ? effect : KvError.fail(link.failure)
      )
    )
  const linked: KvBackend = {
    ...backend,
    execute: (op) => through(backend.execute(op)),
    leaseKeepAlive: (id) => through(backend.leaseKeepAlive(id))
  }
  return { store, linked, gate, link, kv: yield* Kv.make(linked) }
})

const unavailable = new KvError.Unavailable({ message: "cut off" })

describe("metrics of calls", () => {
  it.effect("metrics of calls are durations by operation, with the reason of a failure and without keys or values", () =>
    Effect.gen(function*() {
      const { gate, link, linked } = yield* open
      const calls = yield* KvMetrics.calls({ "db.system.name": "test" })
      const kv = yield* Kv.make(KvMetrics.measured(calls)(linked))
      yield* kv.put("a-secret-key", secret)
      yield* kv.get("a-secret-key")
      yield* Effect.flip(kv.put("", secret))
      link.failure = unavailable
      yield* Effect.flip(kv.get("a-secret-key"))
      link.failure = undefined
      gate.closeUnsafe()
      const slow = yield* Effect.forkChild(kv.get("a-secret-key"), { startImmediately: true })
      const interrupted = yield* Effect.forkChild(kv.get("a-secret-key"), { startImmediately: true })
      assert.deepStrictEqual(yield* series(KvMetrics.requestsInFlight), { "db.system.name=test": 2 })
      yield* TestClock.adjust("20 millis")
      yield* Fiber.interrupt(interrupted)
      yield* gate.open
      yield* Fiber.join(slow)
      const labels = (operation: string, error = "") =>
        `db.system.name=test db.operation.name=${operation}${error === "" ? "" : ` error.type=${error}`}`
      assert.deepStrictEqual(yield* series(KvMetrics.operationDuration), {
        [labels("put")]: { count: 1, sum: 0 },
        [labels("range")]: { count: 2, sum: 0.02 },
        [labels("put", "InvalidRequest")]: { count: 1, sum: 0 },
        [labels("range", "Unavailable")]: { count: 1, sum: 0 },
        [labels("range", "Interrupted")]: { count: 1, sum: 0.02 }
      })
      assert.deepStrictEqual(yield* series(KvMetrics.requestsInFlight), { "db.system.name=test": 0 })
      assert.notMatch(JSON.stringify(yield* Metric.snapshot), /secret/)
    }).pipe(isolated))

  it.effect("metrics of batches are the size of each request, the queue, and the time of each caller", () =>
    Effect.gen(function*() {
      const { gate, linked } = yield* open
      const metrics = yield* KvMetrics.calls({ "db.system.name": "test" })
      const kv = yield* Kv.make(Batching.batched({ maxInFlight: 1, metrics })(linked))
      gate.closeUnsafe()
      const first = yield* Effect.forkChild(kv.put("first", secret), { startImmediately: true })
      const callers = yield* Effect.forEach(
        ["a", "b", "c"],
        (key) => Effect.forkChild(kv.put(key, secret), { startImmediately: true })
      )
      const [leaver] = callers
      assert.deepStrictEqual(yield* series(KvMetrics.callsQueued), { "db.system.name=test": 3 })
      assert.deepStrictEqual(yield* series(KvMetrics.requestsInFlight), { "db.system.name=test": 1 })
      yield* TestClock.adjust("10 millis")
      yield* Fiber.interrupt(leaver!)
      yield* gate.open
      yield* Fiber.joinAll([first, callers[1]!, callers[2]!])
      assert.deepStrictEqual(yield* series(KvMetrics.batchSize), {
        "db.system.name=test kind=put": { count: 2, sum: 3 }
      })
      assert.deepStrictEqual(yield* series(KvMetrics.callsQueued), { "db.system.name=test": 0 })
      assert.deepStrictEqual(yield* series(KvMetrics.requestsInFlight), { "db.system.name=test": 0 })
      const durations = yield* series(KvMetrics.operationDuration)
      assert.deepStrictEqual(durations["db.system.name=test db.operation.name=put"], { count: 3, sum: 0.03 })
      assert.deepStrictEqual(durations["db.system.name=test db.operation.name=put error.type=Interrupted"], {
        count: 1,
        sum: 0.01
      })
      // A range is sent alone, and measured all the same.
      yield* kv.range(KeyRange.all)
      assert.property(yield* series(KvMetrics.operationDuration), "db.system.name=test db.operation.name=range")
    }).pipe(isolated))

  it.effect("a batch that fails counts each of its callers once with the reason", () =>
    Effect.gen(function*() {
      const { gate, link, linked } = yield* open
      const metrics = yield* KvMetrics.calls({ "db.system.name": "test" })
      const kv = yield* Kv.make(Batching.batched({ maxInFlight: 1, metrics })(linked))
      gate.closeUnsafe()
      const callers = yield* Effect.forEach(
        ["a", "b", "c"],
        (key) => Effect.forkChild(Effect.flip(kv.put(key, secret)), { startImmediately: true })
      )
      link.failure = unavailable
      yield* gate.open
      yield* Fiber.joinAll(callers)
      assert.deepStrictEqual(yield* series(KvMetrics.operationDuration), {
        "db.system.name=test db.operation.name=put error.type=Unavailable": { count: 3, sum: 0 }
      })
      assert.deepStrictEqual(yield* series(KvMetrics.requestsInFlight), { "db.system.name=test": 0 })
    }).pipe(isolated))

  it.effect("clients share counters and add up gauges, and only counters outlive a client", () =>
    Effect.gen(function*() {
      const first = Effect.scoped(Effect.gen(function*() {
        const calls = yield* KvMetrics.calls({ "db.system.name": "test" })
        calls.inFlight = 2
        calls.ended("range", 5)
        const second = yield* KvMetrics.calls({ "db.system.name": "test" })
        second.inFlight = 3
        second.ended("range", 5)
        assert.deepStrictEqual(yield* series(KvMetrics.requestsInFlight), { "db.system.name=test": 5 })
      }))
      yield* first
      assert.deepStrictEqual(yield* series(KvMetrics.requestsInFlight), {})
      assert.deepStrictEqual(yield* series(KvMetrics.operationDuration), {
        "db.system.name=test db.operation.name=range": { count: 2, sum: 0.01 }
      })
    }).pipe(isolated))

  it.effect("metrics have the attributes of the context in which the client was made", () =>
    Effect.gen(function*() {
      yield* KvMetrics.calls({ "db.system.name": "test" }).pipe(
        Effect.provideService(Metric.CurrentMetricAttributes, { cluster: "a" })
      )
      const [labels] = Object.keys(yield* series(KvMetrics.callsQueued))
      assert.include(labels, "cluster=a")
    }).pipe(isolated))
})

describe("metrics of locks and sessions", () => {
  it.effect("metrics of locks count holders and waiters, and measure how long they wait and hold", () =>
    Effect.gen(function*() {
      const { kv } = yield* open
      const held = DistLock.withDistLock(Effect.sleep("2 seconds"), "l").pipe(on(kv))
      const first = yield* Effect.forkChild(held, { startImmediately: true })
      const second = yield* Effect.forkChild(held, { startImmediately: true })
      const late = yield* Effect.forkChild(
        Effect.flip(DistLock.withDistLock(Effect.void, "l", { acquireTimeout: "1 second" })).pipe(on(kv)),
        { startImmediately: true }
      )
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), { "kind=lock": 1 })
      assert.deepStrictEqual(yield* series(KvMetrics.locksWaiting), { "kind=lock": 2 })
      assert.deepStrictEqual(yield* series(KvMetrics.sessions), { "": 1 })
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(late)
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.joinAll([first, second])
      assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), { "kind=lock": 0 })
      assert.deepStrictEqual(yield* series(KvMetrics.locksWaiting), { "kind=lock": 0 })
      assert.deepStrictEqual(yield* series(KvMetrics.lockWait), {
        "kind=lock outcome=acquired": { count: 2, sum: 2 },
        "kind=lock outcome=not acquired": { count: 1, sum: 1 }
      })
      assert.deepStrictEqual(yield* series(KvMetrics.lockHold), { "kind=lock": { count: 2, sum: 4 } })
      assert.deepStrictEqual(yield* counted(KvMetrics.locksLost), {})
    }).pipe(isolated))

  it.effect("an acquisition whose scope was closed before it began does not count as a waiter afterwards", () =>
    Effect.gen(function*() {
      const { kv } = yield* open
      const scope = yield* Scope.make()
      yield* Scope.close(scope, Exit.void)
      yield* Effect.flip(Scope.provide(DistLock.acquire("l").pipe(on(kv)), scope))
      assert.deepStrictEqual(yield* series(KvMetrics.locksWaiting), { "kind=lock": 0 })
      assert.strictEqual(yield* kv.count(KeyRange.prefix("l/")), 0)
    }).pipe(isolated))

  it.effect("metrics of locks count leaderships, permits and slots by their kind", () =>
    Effect.gen(function*() {
      const { kv } = yield* open
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Election.campaign("e")
        const semaphore = yield* DistSemaphore.make("s", { permits: 2 })
        yield* semaphore.acquire(2)
        yield* Slot.acquire("numbers", { size: 2 })
        assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), {
          "kind=leadership": 1,
          "kind=semaphore": 1,
          "kind=slot": 1
        })
        yield* kv.deleteRange(KeyRange.prefix("numbers/"))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(yield* counted(KvMetrics.locksLost), { "kind=slot cause=KeyDeleted": 1 })
      })).pipe(on(kv))
      assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), {
        "kind=leadership": 0,
        "kind=semaphore": 0,
        "kind=slot": 0
      })
    }).pipe(isolated))

  it.effect("a client that waits for a slot is counted as that, not as a lock in the queue for it", () =>
    Effect.gen(function*() {
      const { kv } = yield* open
      const slot = Effect.scoped(Effect.andThen(
        Slot.acquire("numbers", { size: 1, acquireTimeout: "5 seconds" }),
        Effect.sleep("4 seconds")
      )).pipe(on(kv))
      const fibers = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(slot, { startImmediately: true }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), { "kind=slot": 1 })
      assert.deepStrictEqual(yield* series(KvMetrics.locksWaiting), { "kind=slot": 2 })
      yield* TestClock.adjust("10 seconds")
      const exits = yield* Effect.forEach(fibers, Fiber.await)
      assert.strictEqual(exits.filter(Exit.isSuccess).length, 2)
      assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), { "kind=slot": 0 })
      assert.deepStrictEqual(yield* series(KvMetrics.locksWaiting), { "kind=slot": 0 })
      assert.deepStrictEqual(yield* series(KvMetrics.lockWait), {
        "kind=slot outcome=acquired": { count: 2, sum: 4 },
        "kind=slot outcome=not acquired": { count: 1, sum: 5 }
      })
      assert.deepStrictEqual(yield* series(KvMetrics.lockHold), { "kind=slot": { count: 2, sum: 8 } })
    }).pipe(isolated))

  it.effect("a run is held while it lasts, and is not waited for", () =>
    Effect.gen(function*() {
      const { kv } = yield* open
      const run = (name: string, work: Effect.Effect<unknown>) => RunOnce.forKey(name, () => work).pipe(on(kv))
      const done = yield* Effect.forkChild(run("done", Effect.sleep("2 seconds")), { startImmediately: true })
      const lost = yield* Effect.forkChild(Effect.flip(run("lost", Effect.never)), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), { "kind=run": 2 })
      yield* kv.deleteRange(KeyRange.key("lost/once/run"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.joinAll([done, lost])
      assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), { "kind=run": 0 })
      assert.deepStrictEqual(yield* series(KvMetrics.locksWaiting), { "kind=run": 0 })
      assert.deepStrictEqual(yield* series(KvMetrics.lockWait), {})
      assert.deepStrictEqual(yield* series(KvMetrics.lockHold), { "kind=run": { count: 2, sum: 3 } })
      assert.deepStrictEqual(yield* counted(KvMetrics.locksLost), { "kind=run cause=KeyDeleted": 1 })
    }).pipe(isolated))

  it.effect("a lock whose key was deleted is counted once, with that cause", () =>
    Effect.gen(function*() {
      const { kv } = yield* open
      const held = yield* Effect.forkChild(
        Effect.flip(DistLock.withDistLock(Effect.never, "l")).pipe(on(kv)),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 second")
      yield* kv.deleteRange(KeyRange.prefix("l/"))
      assert.strictEqual((yield* Fiber.join(held))._tag, "LockLost")
      assert.deepStrictEqual(yield* counted(KvMetrics.locksLost), { "kind=lock cause=KeyDeleted": 1 })
      assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), { "kind=lock": 0 })
      assert.deepStrictEqual(yield* counted(KvMetrics.sessionsLost), {})
    }).pipe(isolated))

  it.effect("a loss that a fenced write finds is counted as rejected", () =>
    Effect.gen(function*() {
      const { kv } = yield* open
      const error = yield* Effect.flip(
        Effect.andThen(
          kv.deleteRange(KeyRange.prefix("l/")),
          Effect.andThen(kv.put("k", secret), Effect.never)
        ).pipe(DistLock.withDistLock("l"), on(kv))
      )
      assert.strictEqual(error._tag, "LockLost")
      assert.deepStrictEqual(yield* counted(KvMetrics.locksLost), { "kind=lock cause=Rejected": 1 })
      assert.deepStrictEqual(yield* series(KvMetrics.locksHeld), { "kind=lock": 0 })
    }).pipe(isolated))

  it.effect("a session that is lost and its lock are counted", () =>
    Effect.gen(function*() {
      const { kv, link } = yield* open
      const held = yield* Effect.forkChild(
        Effect.flip(DistLock.withDistLock(Effect.never, "l", { ttl: "10 seconds" })).pipe(on(kv)),
        { startImmediately: true }
      )
      yield* TestClock.adjust("4 seconds")
      // Renewed after a third, when 9 - 10/3 seconds were left.
      const margins = yield* series(KvMetrics.renewalMargin)
      assert.approximately((margins[""] as { readonly sum: number }).sum, 9 - 10 / 3, 0.01)
      link.failure = unavailable
      yield* TestClock.adjust("5 seconds")
      const margin = (yield* series(KvMetrics.sessionMargin))[""] as number
      assert.isBelow(margin, 0.4)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(held))._tag, "LockLost")
      assert.deepStrictEqual(yield* counted(KvMetrics.locksLost), { "kind=lock cause=NotRenewed": 1 })
      assert.deepStrictEqual(yield* counted(KvMetrics.sessionsLost), { "cause=NotRenewed": 1 })
      assert.deepStrictEqual(yield* series(KvMetrics.sessions), { "": 0 })
      assert.deepStrictEqual(yield* series(KvMetrics.sessionMargin), { "": 1 })
      const failures = yield* series(KvMetrics.renewalFailures)
      assert.isAbove(failures["error.type=Unavailable"] as number, 1)
    }).pipe(isolated))

  it.effect("a session whose lease the store has ended is counted by that cause, and one that its owner closes is not", () =>
    Effect.gen(function*() {
      const { kv, linked } = yield* open
      const session = yield* Session.make().pipe(on(kv))
      yield* Effect.scoped(Session.make()).pipe(on(kv))
      yield* linked.leaseRevoke(session.lease)
      yield* TestClock.adjust("4 seconds")
      assert.isFalse(yield* session.isAlive)
      assert.deepStrictEqual(yield* counted(KvMetrics.sessionsLost), { "cause=LeaseEnded": 1 })
    }).pipe(isolated))

  it.effect("temporary keys that are lost and made again are counted", () =>
    Effect.gen(function*() {
      const { kv } = yield* open
      yield* Effect.scoped(Effect.gen(function*() {
        const key = yield* TempKey.make("k").pipe(on(kv))
        assert.deepStrictEqual(yield* series(KvMetrics.tempKeys), { "": 1 })
        const first = yield* key.revision
        yield* TestClock.adjust("1 second")
        yield* kv.deleteRange(KeyRange.key("k"))
        yield* TestClock.adjust("1 second")
        assert.isTrue(Option.isSome(yield* key.revision))
        assert.notDeepEqual(yield* key.revision, first)
        assert.deepStrictEqual(yield* counted(KvMetrics.tempKeysLost), { "cause=Lost": 1 })
        assert.deepStrictEqual(yield* series(KvMetrics.tempKeysRecreated), { "": 1 })
        assert.deepStrictEqual(yield* series(KvMetrics.tempKeys), { "": 1 })
      }))
      assert.deepStrictEqual(yield* series(KvMetrics.tempKeys), { "": 0 })
    }).pipe(isolated))

  it.effect("counters of losses begin at 0, because an alert on their increase does not see a series that begins at 1", () =>
    Effect.gen(function*() {
      const { kv } = yield* open
      yield* DistLock.withDistLock(Effect.void, "l").pipe(on(kv))
      yield* Effect.scoped(TempKey.make("k")).pipe(on(kv))
      assert.deepStrictEqual(yield* series(KvMetrics.sessionsLost), { "cause=NotRenewed": 0, "cause=LeaseEnded": 0 })
      assert.deepStrictEqual(yield* series(KvMetrics.locksLost), {
        "kind=lock cause=NotRenewed": 0,
        "kind=lock cause=LeaseEnded": 0,
        "kind=lock cause=KeyDeleted": 0,
        "kind=lock cause=Rejected": 0
      })
      assert.deepStrictEqual(yield* series(KvMetrics.tempKeysLost), { "cause=Lost": 0, "cause=Taken": 0 })
    }).pipe(isolated))

  it.effect("a client's gauges are gone when it has closed", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        const { kv } = yield* open
        yield* DistLock.withDistLock(Effect.void, "l").pipe(on(kv))
      }))
      const gauges = (yield* Metric.snapshot).filter(({ type }) => type === "Gauge")
      assert.deepStrictEqual(gauges.map(({ id }) => id), [])
    }).pipe(isolated))
})

describe("the list of metrics", () => {
  it("the list of metrics has each name once, and names that Prometheus and OpenTelemetry accept", () => {
    const names = KvMetrics.all.map(({ name }) => name)
    assert.strictEqual(new Set(names).size, names.length)
    for (const { description, labels, name, type, unit } of KvMetrics.all) {
      assert.match(name, /^(effect_kv_[a-z_]+|db\.client\.operation\.duration)$/)
      assert.strictEqual(name.endsWith("_total"), type === "Counter", name)
      assert.strictEqual(name.endsWith("_ratio"), unit === "1", name)
      assert.isNotEmpty(description)
      for (const label of labels) assert.notMatch(label, /key|value|prefix/)
    }
  })
})

describe("metrics of stores in memory", () => {
  it.effect("metrics of a store in memory are its sizes once, however many clients it has, while it has one", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      yield* Effect.scoped(Effect.gen(function*() {
        const kv = yield* Effect.flatMap(store.connect, Kv.make)
        yield* store.connect
        yield* kv.put("a", secret)
        yield* kv.put("b", secret)
        yield* kv.subscribe(KeyRange.all)
        const { historyBytes } = yield* store.statistics
        assert.deepStrictEqual(yield* series(KvMetrics.memoryKeys), { "": 2 })
        assert.deepStrictEqual(yield* series(KvMetrics.memoryRevision), { "": 3 })
        assert.deepStrictEqual(yield* series(KvMetrics.memoryWatches), { "": 1 })
        assert.deepStrictEqual(yield* series(KvMetrics.memoryLeases), { "": 0 })
        yield* Effect.scoped(Effect.gen(function*() {
          yield* Session.make().pipe(on(kv))
          assert.deepStrictEqual(yield* series(KvMetrics.memoryLeases), { "": 1 })
        }))
        assert.deepStrictEqual(yield* series(KvMetrics.memoryHistory), { "": historyBytes })
        const other = yield* MemoryStore.make()
        yield* (yield* Effect.flatMap(other.connect, Kv.make)).put("c", secret)
        assert.deepStrictEqual(yield* series(KvMetrics.memoryKeys), { "": 3 })
      }))
      assert.deepStrictEqual(yield* series(KvMetrics.memoryKeys), {})
    }).pipe(isolated))
})
