/**
 * Runner storage when the store, or the link to it, fails. In virtual time.
 */
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import * as Op from "@effect-kv/core/Op"
import * as Tracing from "@effect-kv/core/Tracing"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { BackendCall, KvFaults } from "@effect-kv/test-suite/testing"
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import { Runner } from "effect/cluster"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import * as Tracer from "effect/Tracer"
import { address, config, ids, keys, process, registered, runner, shard, shardsUpTo } from "./support/storages.ts"

const a = address("a")
const b = address("b")
const prefix = "cluster"

/** A store, a healthy client of it, and a process behind faults. */
const setUp = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const kv = yield* Effect.flatMap(store.connect, Kv.make)
  const faults = yield* Effect.flatMap(store.connect, KvFaults.make)
  return { store, kv, faults, one: yield* process(faults.kv, prefix), two: yield* process(kv, prefix) }
})

const acquires = (call: BackendCall.Call): boolean =>
  BackendCall.operations(call).some((op) => op._tag === "Put" && op.key.startsWith(`${prefix}/locks/`))

const interval = Duration.fromInputUnsafe(config.shardLockRefreshInterval)

describe("runner storage under faults", () => {
  it.effect("a runner keeps its registration and its locks only while it is refreshed", () =>
    Effect.gen(function*() {
      const { kv, one, two } = yield* setUp
      yield* one.register(runner("a"), true)
      yield* one.acquire(a, shardsUpTo(3))
      yield* two.register(runner("b"), true)
      yield* two.acquire(b, [shard(4)])
      for (let i = 0; i < 4; i++) {
        yield* TestClock.adjust(interval)
        assert.deepStrictEqual(yield* ids(two.refresh(b, shardsUpTo(4))), [4])
      }
      assert.deepStrictEqual(yield* registered(two.getRunners), ["b healthy"])
      assert.deepStrictEqual(yield* ids(two.acquire(b, shardsUpTo(4))), [1, 2, 3, 4])
      assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(3))), [])
      assert.notInclude(yield* keys(kv, prefix), "/machines/1")
    }))

  it.effect("refresh renews the locks and then the registration, not twice within half an interval, and reads the store", () =>
    Effect.gen(function*() {
      const { faults, kv, one } = yield* setUp
      yield* one.register(runner("a"), true)
      yield* one.acquire(a, shardsUpTo(20))
      yield* TestClock.adjust(interval)
      const renewed: Array<Option.Option<bigint>> = []
      const renewals = yield* faults.inject(KvFaults.delayRequest(0), {
        when: (call) => call.kind === "leaseKeepAlive" && renewed.push(Option.fromUndefinedOr(call.lease)) > 0,
        times: Infinity
      })
      yield* one.refresh(a, shardsUpTo(20))
      const leaseOf = (key: string) => Effect.map(kv.getEntry(`${prefix}/${key}`), Option.flatMap(({ lease }) => lease))
      assert.deepStrictEqual(renewed, [yield* leaseOf("locks/default:1"), yield* leaseOf("runners/a:1")])
      assert.strictEqual(yield* renewals.count, 2)
      const reads = yield* faults.inject(KvFaults.delayRequest(0), {
        when: (call) => call.kind === "execute",
        times: Infinity
      })
      yield* one.refresh(a, [shard(1)])
      yield* one.refresh(a, [])
      assert.strictEqual(yield* renewals.count, 2)
      assert.strictEqual(yield* reads.count, 2)
    }))

  it.effect("every operation ends within the refresh interval when the store does not respond", () =>
    Effect.gen(function*() {
      for (const requests of ["lost", "refused"] as const) {
        const { faults, one } = yield* setUp
        yield* one.register(runner("a"), true)
        yield* one.acquire(a, shardsUpTo(2))
        yield* faults.partition({ requests })
        const operations: Record<string, Effect.Effect<unknown, unknown>> = {
          getRunners: one.getRunners,
          register: one.register(runner("a"), true),
          release: one.release(a, shard(1)),
          acquire: one.acquire(a, shardsUpTo(3)),
          refresh: one.refresh(a, shardsUpTo(2)),
          setRunnerHealth: one.setRunnerHealth(b, true),
          unregister: one.unregister(a),
          releaseAll: one.releaseAll(a)
        }
        for (const [name, operation] of Object.entries(operations)) {
          const fiber = yield* Effect.forkChild(Effect.exit(operation))
          yield* TestClock.adjust(interval)
          const exit = fiber.pollUnsafe()
          assert.isDefined(exit, `${name} has ended`)
          if (name === "getRunners") continue
          const failure = String(yield* Fiber.join(fiber))
          assert.include(failure, "PersistenceError", name)
          if (requests === "refused") assert.include(failure, "Unavailable", `${name} says why`)
        }
      }
    }))

  it.effect("after a lost response a second attempt finds what the first has done", () =>
    Effect.gen(function*() {
      const { faults, kv, one } = yield* setUp
      const during = Effect.fnUntraced(function*<A, E>(operation: Effect.Effect<A, E>) {
        yield* faults.inject(KvFaults.loseResponse, { when: BackendCall.isWrite, nth: 1 })
        const fiber = yield* Effect.forkChild(operation)
        yield* TestClock.adjust("100 millis")
        return yield* Fiber.join(fiber)
      })
      yield* one.acquire(a, [])
      assert.strictEqual(yield* during(one.register(runner("a"), true)), 1)
      yield* one.acquire(a, [shard(9)])
      assert.deepStrictEqual(yield* ids(during(one.acquire(a, shardsUpTo(3)))), [1, 2, 3])
      yield* during(one.release(a, shard(1)))
      assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(3))), [2, 3])
      yield* during(one.releaseAll(a))
      yield* during(one.unregister(a))
      assert.deepStrictEqual(yield* keys(kv, prefix), ["/machine"])
    }))

  it.effect("a registration is listed at once while the watch of registrations is cut", () =>
    Effect.gen(function*() {
      const { faults, one } = yield* setUp
      assert.deepStrictEqual(yield* registered(one.getRunners), [])
      yield* faults.cutWatches({ duration: "1 hour" })
      yield* one.register(runner("a"), true)
      assert.deepStrictEqual(yield* registered(one.getRunners), ["a healthy"])
      yield* one.unregister(a)
      assert.deepStrictEqual(yield* registered(one.getRunners), [])
    }))

  it.effect("runners that join and leave are seen while the watch of registrations is cut", () =>
    Effect.gen(function*() {
      const { faults, one, two } = yield* setUp
      yield* one.register(runner("a"), true)
      yield* one.getRunners
      yield* faults.cutWatches({ duration: "1 hour" })
      yield* two.register(runner("b"), true)
      // The view notices the cut in a fiber of its own.
      yield* Effect.repeat(one.getRunners, { until: (all) => all.length === 2 })
      yield* two.unregister(b)
      assert.deepStrictEqual(yield* registered(one.getRunners), ["a healthy"])
    }))

  it.effect("a watch that cannot continue is opened again at the next read", () =>
    Effect.gen(function*() {
      const { faults, kv, one } = yield* setUp
      yield* one.register(runner("a"), true)
      assert.deepStrictEqual(yield* registered(one.getRunners), ["a healthy"])
      yield* faults.cutWatches({ compacted: true })
      yield* kv.put("other", "1")
      yield* TestClock.adjust("1 second")
      yield* one.register(runner("a"), false)
      assert.deepStrictEqual(yield* registered(one.getRunners), ["a unhealthy"])
    }))

  it.effect("polling the registered runners takes no request", () =>
    Effect.gen(function*() {
      const { faults, one } = yield* setUp
      yield* one.register(runner("a"), true)
      yield* one.getRunners
      yield* TestClock.adjust("1 second")
      const calls = yield* faults.inject(KvFaults.delayRequest(0), { times: Infinity })
      yield* Effect.repeat(one.getRunners, { times: 100 })
      assert.strictEqual(yield* calls.count, 0)
    }))

  it.effect("300 shards are acquired with three requests", () =>
    Effect.gen(function*() {
      const { faults, one } = yield* setUp
      const calls = yield* faults.inject(KvFaults.delayRequest(0), { when: acquires, times: Infinity })
      assert.strictEqual((yield* one.acquire(a, shardsUpTo(300))).length, 300)
      assert.strictEqual(yield* calls.count, 3)
    }))

  it.effect("a lock whose acquire was interrupted is deleted at a later refresh, and not reported meanwhile", () =>
    Effect.gen(function*() {
      const { faults, one, two } = yield* setUp
      yield* one.acquire(a, [shard(1)])
      yield* faults.inject(KvFaults.delayResponse("1 hour"), { when: acquires })
      const fiber = yield* Effect.forkChild(one.acquire(a, [shard(2)]))
      yield* TestClock.adjust("10 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* ids(two.acquire(b, shardsUpTo(2))), [], "it was acquired")
      yield* TestClock.adjust(interval)
      assert.deepStrictEqual(yield* ids(one.refresh(a, [shard(1)])), [1])
      assert.deepStrictEqual(yield* ids(two.acquire(b, shardsUpTo(2))), [2])
      assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(2))), [1])
    }))

  it.effect("an interrupted acquire can be repeated: the lock is then held", () =>
    Effect.gen(function*() {
      const { faults, one } = yield* setUp
      yield* one.acquire(a, [shard(1)])
      yield* faults.inject(KvFaults.delayResponse("1 hour"), { when: acquires })
      const fiber = yield* Effect.forkChild(one.acquire(a, [shard(2)]))
      yield* TestClock.adjust("10 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(2))), [1, 2])
      yield* TestClock.adjust(interval)
      assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(2))), [1, 2])
    }))

  it.effect("a release that is applied late does not delete the lock that was acquired again", () =>
    Effect.gen(function*() {
      const { faults, one } = yield* setUp
      yield* one.acquire(a, [shard(1)])
      yield* faults.inject(KvFaults.applyLate("1 second"), { when: KvFaults.writes(`${prefix}/locks/default:1`) })
      const fiber = yield* Effect.forkChild(one.release(a, shard(1)))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* ids(one.acquire(a, [shard(1)])), [1])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* ids(one.refresh(a, [shard(1)])), [1])
    }))

  it.effect("after a releaseAll with an unknown outcome, no lock of the old lease counts as held", () =>
    Effect.gen(function*() {
      const { faults, one } = yield* setUp
      yield* one.acquire(a, shardsUpTo(2))
      yield* faults.inject(KvFaults.silently(KvFaults.loseRequest), {
        when: (call) => call.kind === "leaseRevoke",
        times: 2
      })
      const fiber = yield* Effect.forkChild(Effect.exit(one.releaseAll(a)))
      yield* TestClock.adjust(interval)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(2))), [])
      assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(3))), [3])
      yield* one.releaseAll(a)
      assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(3))), [1, 2, 3])
    }))

  it.effect("a release that is repeated does not delete a lock that was acquired meanwhile", () =>
    Effect.gen(function*() {
      const { faults, one } = yield* setUp
      yield* one.acquire(a, [shard(1)])
      const refused = yield* faults.inject(KvFaults.loseRequest, { when: KvFaults.writes(`${prefix}/locks/default:1`) })
      const fiber = yield* Effect.forkChild(one.release(a, shard(1)))
      yield* TestClock.adjust("20 millis")
      assert.strictEqual(yield* refused.count, 1)
      yield* one.releaseAll(a)
      assert.deepStrictEqual(yield* ids(one.acquire(a, [shard(1)])), [1])
      yield* TestClock.adjust("100 millis")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* ids(one.refresh(a, [shard(1)])), [1])
    }))

  it.effect("a releaseAll that is repeated does not end locks that were acquired meanwhile", () =>
    Effect.gen(function*() {
      const { faults, one } = yield* setUp
      yield* one.acquire(a, [shard(1)])
      const refused = yield* faults.inject(KvFaults.loseRequest, { when: (call) => call.kind === "leaseRevoke" })
      const fiber = yield* Effect.forkChild(one.releaseAll(a))
      yield* TestClock.adjust("20 millis")
      assert.strictEqual(yield* refused.count, 1)
      assert.deepStrictEqual(yield* ids(one.acquire(a, [shard(2)])), [2])
      yield* TestClock.adjust("100 millis")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* ids(one.refresh(a, [shard(2)])), [2])
    }))

  it.effect("after an unregister with an unknown outcome, a refresh does not renew the registration", () =>
    Effect.gen(function*() {
      const { faults, kv, one } = yield* setUp
      yield* one.register(runner("a"), true)
      yield* one.acquire(a, [shard(1)])
      yield* faults.inject(KvFaults.silently(KvFaults.loseRequest), {
        when: (call) => call.kind === "leaseRevoke",
        times: Infinity
      })
      const fiber = yield* Effect.forkChild(Effect.exit(one.unregister(a)))
      for (let i = 0; i < 4; i++) {
        yield* TestClock.adjust(interval)
        assert.deepStrictEqual(yield* ids(one.refresh(a, [shard(1)])), [1])
      }
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(yield* keys(kv, `${prefix}/runners`), [])
    }))

  it.effect("a machine id written by another program does not prevent runners from registering", () =>
    Effect.gen(function*() {
      const { kv, one, two } = yield* setUp
      yield* kv.put(`${prefix}/machine`, "not a number")
      assert.strictEqual(yield* one.register(runner("a"), true), 1)
      yield* kv.put(`${prefix}/machine`, "-7")
      assert.strictEqual(yield* two.register(runner("b"), true), 2)
    }))

  it.effect("a store that was restored with older revisions confirms no earlier lock or fence", () =>
    Effect.gen(function*() {
      const before = yield* (yield* MemoryStore.make()).connect
      const restored = yield* (yield* MemoryStore.make()).connect
      let store = before
      const client = yield* Kv.make({
        execute: (op) => store.execute(op),
        watch: (request) => store.watch(request),
        leaseGrant: (options) => store.leaseGrant(options),
        leaseKeepAlive: (id) => store.leaseKeepAlive(id),
        leaseRevoke: (id) => store.leaseRevoke(id),
        leaseTimeToLive: (id, options) => store.leaseTimeToLive(id, options)
      })
      const one = yield* process(client, prefix)
      // The snapshot had the lease, and not the lock.
      yield* one.acquire(a, [shard(1)])
      yield* one.acquire(a, [shard(2)])
      const fence = yield* one.locks.fence(a, shard(1))
      const lock = Option.getOrThrow(yield* client.getEntry(`${prefix}/locks/default:1`))
      const id = Option.getOrThrow(lock.lease)
      yield* restored.leaseGrant({ ttl: config.shardLockExpiration, id })
      const two = yield* process(yield* Kv.make(restored), prefix)
      assert.deepStrictEqual(yield* ids(two.acquire(b, [shard(1)])), [1])
      store = restored
      const again = Option.getOrThrow(yield* client.getEntry(`${prefix}/locks/default:1`))
      assert.strictEqual(again.createRevision, lock.createRevision)
      assert.isTrue(fence.isHeldUnsafe())
      const error = yield* Effect.flip(Fence.provide(client.put("state", "stale"), fence))
      assert.strictEqual(error.reason._tag, "LockLost")
      assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(2))), [])
    }))

  it.effect("a runner that was frozen knows by its own clock that its fence is lost", () =>
    Effect.gen(function*() {
      const { faults, one } = yield* setUp
      yield* one.acquire(a, [shard(1)])
      const fence = yield* one.locks.fence(a, shard(1))
      assert.isTrue(fence.isHeldUnsafe())
      yield* faults.partition()
      yield* TestClock.adjust(config.shardLockExpiration)
      assert.isFalse(fence.isHeldUnsafe())
      const error = yield* Effect.flip(fence.notHeld)
      assert.strictEqual(error.reason._tag, "LockLost")
    }))

  it.effect("a response that arrives after a freeze, when the lease can have ended, acquires and confirms nothing", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let frozenFor = 0n
      const frozen: Clock.Clock = {
        ...clock,
        monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe() + frozenFor
      }
      const { faults } = yield* setUp
      const one = yield* Effect.provideService(process(faults.kv, prefix), Clock.Clock, frozen)
      /** Freezes the process while the response is on its way. */
      const overFreeze = Effect.fnUntraced(function*<A, E>(operation: Effect.Effect<A, E>, when: typeof acquires) {
        const held = yield* faults.hold("response", { when })
        const fiber = yield* Effect.forkChild(operation)
        yield* held.reached
        frozenFor += 7_000_000_000n
        yield* held.letGo
        return yield* Fiber.join(fiber)
      })
      yield* one.acquire(a, [shard(1)])
      assert.deepStrictEqual(yield* overFreeze(one.acquire(a, [shard(2)]), acquires), [])
      assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(2))), [], "the lease was given up, and still exists")
      yield* one.releaseAll(a)
      assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(2))), [1, 2])
      const refreshed = overFreeze(one.refresh(a, shardsUpTo(2)), (call) => call.kind === "execute")
      assert.deepStrictEqual(yield* ids(refreshed), [])
    }))

  it.effect("no operation of the storage is traced", () =>
    Effect.gen(function*() {
      const spans: Array<string> = []
      const tracer = Tracer.make({
        span(options) {
          spans.push(options.name)
          return new Tracer.NativeSpan(options)
        }
      })
      const store = yield* MemoryStore.make()
      const kv = yield* Effect.map(
        Effect.flatMap(store.connect, Kv.make),
        Kv.mapBackend(Tracing.traced({ "db.system.name": "test" }))
      )
      yield* Effect.gen(function*() {
        const one = yield* process(kv, prefix)
        yield* kv.put("traced", "yes")
        yield* one.register(runner("a"), true)
        yield* one.acquire(a, shardsUpTo(3))
        yield* TestClock.adjust(interval)
        yield* one.refresh(a, shardsUpTo(3))
        yield* one.getRunners
        yield* one.setRunnerHealth(a, false)
        yield* one.release(a, shard(1))
        yield* one.releaseAll(a)
        yield* one.unregister(a)
      }).pipe(Effect.withTracer(tracer))
      assert.strictEqual(spans.length, 1, "the put of this test")
    }))

  it.effect("a process whose address another has taken over does not reclaim it until the other is gone", () =>
    Effect.gen(function*() {
      const { one, two } = yield* setUp
      yield* one.register(runner("a"), true)
      yield* two.register(Runner.make({ address: a, groups: ["default"], weight: 2 }), true)
      yield* two.acquire(a, shardsUpTo(2))
      for (const adjusted of ["0 seconds", config.shardLockExpiration] as const) {
        yield* two.refresh(a, [])
        yield* TestClock.adjust(Duration.divideUnsafe(Duration.fromInputUnsafe(adjusted), 2))
        yield* two.refresh(a, [])
        yield* TestClock.adjust(Duration.divideUnsafe(Duration.fromInputUnsafe(adjusted), 2))
        yield* one.refresh(a, [])
        const error = yield* Effect.flip(one.register(runner("a"), true))
        assert.include(String(error.cause), "another process has registered at a:1")
        assert.deepStrictEqual(yield* ids(two.refresh(a, shardsUpTo(2))), [1, 2])
      }
      yield* two.unregister(a)
      assert.strictEqual(yield* one.register(runner("a"), true), 1)
    }))

  it.effect("a runner that registers with another weight or other groups is omitted for two intervals of Sharding", () =>
    Effect.gen(function*() {
      const { kv, one, two } = yield* setUp
      yield* one.register(runner("b"), true)
      yield* two.register(runner("a"), true)
      yield* Effect.repeat(one.getRunners, { until: (all) => all.length === 2 })
      const changed = Runner.make({ address: a, groups: ["default", "gpu"], weight: 1 })
      yield* (yield* process(kv, prefix)).register(changed, true)
      for (let reads = 0; reads < 2; reads++) {
        yield* Effect.repeat(one.getRunners, { until: (all) => all.length === 1 })
        yield* TestClock.adjust(config.refreshAssignmentsInterval)
      }
      const found = (yield* one.getRunners).find(([{ address }]) => address.host === "a")
      assert.deepStrictEqual(found?.[0].groups, ["default", "gpu"])
      assert.deepStrictEqual(yield* registered(one.getRunners), ["a healthy", "b healthy"])
      yield* two.setRunnerHealth(a, false)
      yield* Effect.repeat(registered(one.getRunners), { until: ([first]) => first === "a unhealthy" })
    }))

  // `Sharding` must see the changed runner missing once. Others read ten times as often, and one reads first.
  const step = Duration.divideUnsafe(Duration.fromInputUnsafe(config.refreshAssignmentsInterval), 10)
  for (const way of ["again at once", "again after it was unregistered", "again while reads fail"] as const) {
    it.effect(`however often others read the list, Sharding sees that a changed runner was away: it registers ${way}`, () =>
      Effect.gen(function*() {
        const { faults, kv, one, two } = yield* setUp
        yield* two.register(runner("a"), true)
        yield* Effect.repeat(one.getRunners, { until: (all) => all.length === 1 })
        const changed = yield* process(kv, prefix)
        for (let weight = 2; weight <= 11; weight++) {
          /** The weight of the runner as `Sharding` has seen it, if it was listed. */
          const seen: Array<number | undefined> = [weight - 1]
          if (way === "again after it was unregistered") {
            yield* changed.unregister(a)
            yield* Effect.repeat(one.getRunners, { until: (all) => all.length === 0 })
          }
          const again = yield* process(kv, prefix)
          yield* again.register(Runner.make({ address: a, groups: ["default"], weight }), true)
          yield* Effect.repeat(one.getRunners, { until: (all) => all.length === 0 })
          if (way === "again while reads fail") {
            yield* faults.cutWatches({ duration: "1 millis" })
            yield* faults.partition({ requests: "refused" })
            const failing = yield* Effect.forkChild(Effect.exit(one.getRunners))
            yield* TestClock.adjust(interval)
            yield* Fiber.join(failing)
            yield* faults.heal
            // `Sharding` pauses for a second after a failure.
            yield* TestClock.adjust("900 millis")
          }
          for (let steps = weight % 10; steps <= 60; steps++) {
            const runners = yield* one.getRunners
            if (steps % 10 === 9) seen.push(runners[0]?.[0].weight)
            yield* TestClock.adjust(step)
          }
          assert.deepStrictEqual([...new Set(seen)], [weight - 1, undefined, weight])
          yield* Effect.forEach([again, changed], (each) => each.refresh(a, []))
        }
      }))
  }

  it.effect("when all machine ids are taken, the error says so", () =>
    Effect.gen(function*() {
      const { kv, one } = yield* setUp
      const machines = Array.from({ length: 1023 }, (_, index) => Op.put(`${prefix}/machines/${index + 1}`, "x:1"))
      for (let i = 0; i < machines.length; i += 100) yield* kv.txn({ then: machines.slice(i, i + 100) })
      const error = yield* Effect.flip(one.register(runner("a"), true))
      assert.include(String(error.cause), "all 1023 machine ids are taken")
      yield* kv.delete(`${prefix}/machines/700`)
      assert.strictEqual(yield* one.register(runner("a"), true), 700)
    }))

  it.effect("invalid times and prefixes are rejected, and the error names them", () =>
    Effect.gen(function*() {
      const { kv } = yield* setUp
      const error = yield* Effect.flip(process(kv, ""))
      assert.include(error.message, "prefix of a cluster")
      assert.isTrue(Option.isNone(yield* kv.get("x")))
    }))
})
