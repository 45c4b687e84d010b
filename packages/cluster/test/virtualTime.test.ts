/**
 * Clusters in virtual time: two or three runners on one store in memory.
 */
import { KvSingleton } from "@effect-kv/cluster"
import { TestCluster } from "@effect-kv/cluster/testing"
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as Op from "@effect-kv/core/Op"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { BackendCall, KvFaults } from "@effect-kv/test-suite/testing"
import type { Changes } from "@effect-kv/test-suite/verification"
import { afterEach, assert, beforeAll, beforeEach, describe, it } from "@effect/vitest"
import { Entity } from "effect/cluster"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Rpc } from "effect/rpc"
import * as Schema from "effect/Schema"
import { TestClock } from "effect/testing"
import { fenced, unfenced } from "./support/counters.ts"
import { make, shards, violationsOf } from "./support/virtualCluster.ts"

const ids = Array.from({ length: 10 }, (_, index) => `id-${index}`)

/** Increments each counter once, through the runner. */
const incrementAll = (runner: Effect.Success<ReturnType<Effect.Success<typeof make>["start"]>>) =>
  Effect.forEach(ids, (id) => runner.run(fenced.increment(id)), { concurrency: "unbounded" })

const rates = {
  loseRequest: 0.02,
  loseResponse: 0.02,
  applyLate: 0.02,
  silence: 0.02,
  delay: 0.2,
  maxDelay: "800 millis",
  cutWatches: 0.02,
  endLease: 0.01
} as const

/** A mutant: acquires a lock whether it is held or not. */
const acquiringWhatIsHeld = (backend: KvBackend): KvBackend => {
  const mutate = (op: Op.Op): Op.Op =>
    op._tag !== "Txn"
      ? op
      : Op.txn({
        if: op.then.some((each) => each._tag === "Put" && each.key.startsWith("cluster/locks/")) ? [] : op.if,
        then: op.then.map(mutate),
        else: op.else.map(mutate)
      })
  return { ...backend, execute: (op) => backend.execute(mutate(op)) }
}

/** A change in a trace: all but what is random, the ids of leases. */
const traced = ({ key, modRevision, type }: Changes.Change): string => `${modRevision} ${type} ${key}`

/** A runner with entities that joins another one. */
const warmUp = Effect.gen(function*() {
  const { pass, start } = yield* make
  yield* start("a")
  const b = yield* start("b")
  yield* pass(2000)
  const calls = yield* Effect.forkChild(incrementAll(b))
  yield* pass(1000)
  yield* Fiber.join(calls)
})

/** The most CPU time of a test, in seconds. The wall clock would measure what else the machine does. */
const mostCpuSeconds = 0.5

describe("a cluster in virtual time", () => {
  // What a process does once only, such as compiling the code, is no part of a test.
  beforeAll(() => Effect.runPromise(Effect.provide(Effect.scoped(warmUp), TestClock.layer())))

  let before = process.cpuUsage()
  beforeEach(() => {
    before = process.cpuUsage()
  })
  afterEach(() => {
    const { system, user } = process.cpuUsage(before)
    assert.isBelow((system + user) / 1_000_000, mostCpuSeconds, "seconds of CPU time")
  })

  it.effect("the first runner owns all shards within a second, and a second one gets its part", () =>
    Effect.gen(function*() {
      const { pass, start } = yield* make
      const a = yield* start("a")
      yield* pass(500)
      assert.strictEqual(yield* a.shards, shards)
      const b = yield* start("b")
      yield* pass(3000)
      const [ofA, ofB] = [yield* a.shards, yield* b.shards]
      assert.strictEqual(ofA + ofB, shards)
      assert.isTrue(ofA > 0 && ofB > 0, `${ofA} and ${ofB}`)
      const counts = yield* Effect.forkChild(incrementAll(b))
      yield* pass(1000)
      assert.deepStrictEqual(yield* Fiber.join(counts), ids.map(() => 1))
    }))

  it.effect("a client without shards calls entities of all runners, before and after one of them ends", () =>
    Effect.gen(function*() {
      const { client, kv, pass, start } = yield* make
      const a = yield* start("a")
      yield* pass(500)
      const b = yield* start("b")
      yield* pass(3000)
      const run = yield* client
      yield* pass(500)
      const call = Effect.forEach(ids, (id) => run(fenced.increment(id)), { concurrency: "unbounded" })
      const first = yield* Effect.forkChild(call)
      yield* pass(1000)
      assert.deepStrictEqual(yield* Fiber.join(first), ids.map(() => 1))
      const owners = yield* Effect.forEach(ids, (id) => Effect.map(fenced.stateOf(kv, id), Option.getOrThrow))
      assert.deepStrictEqual([...new Set(owners.map(({ runner }) => runner))].toSorted(), ["a:1", "b:1"])
      const leaving = yield* Effect.forkChild(a.leave)
      yield* pass(2000)
      yield* Fiber.join(leaving)
      const second = yield* Effect.forkChild(call)
      yield* pass(1000)
      assert.deepStrictEqual(yield* Fiber.join(second), ids.map(() => 2))
      assert.strictEqual(yield* b.shards, shards)
    }))

  it.effect("when a runner dies silently, the others own its shards and its singletons after the expiration", () =>
    Effect.gen(function*() {
      const { kv, pass, start } = yield* make
      const a = yield* start("a")
      yield* pass(500)
      const b = yield* start("b")
      yield* pass(3000)
      yield* a.kill
      yield* pass(6500)
      assert.strictEqual(yield* b.shards, shards)
      const counts = yield* Effect.forkChild(incrementAll(b))
      yield* pass(1000)
      assert.deepStrictEqual(yield* Fiber.join(counts), ids.map(() => 1))
      assert.deepStrictEqual(yield* kv.get("ticker"), Option.some("b"))
    }))

  it.effect("a runner that ends gracefully hands its shards over within a second", () =>
    Effect.gen(function*() {
      const { pass, start } = yield* make
      const a = yield* start("a")
      yield* pass(500)
      const b = yield* start("b")
      yield* pass(3000)
      const leaving = yield* Effect.forkChild(a.leave)
      yield* pass(1000)
      assert.strictEqual(yield* b.shards, shards)
      yield* Fiber.join(leaving)
    }))

  it.effect("a runner that ends hands its shards over within a second, also if its peers try before it has released them", () =>
    Effect.gen(function*() {
      const { pass, start } = yield* make
      const a = yield* start("a")
      yield* pass(500)
      const b = yield* start("b")
      yield* pass(3000)
      yield* a.faults.inject(KvFaults.delayRequest("400 millis"), {
        when: (call) =>
          BackendCall.operations(call).some(({ _tag, ...op }) =>
            _tag === "Delete" && JSON.stringify(op, (_, value) => typeof value === "bigint" ? `${value}` : value)
              .includes("cluster/locks/")
          ),
        times: Infinity
      })
      const leaving = yield* Effect.forkChild(a.leave)
      yield* pass(1000)
      assert.strictEqual(yield* b.shards, shards)
      yield* Fiber.join(leaving)
    }))

  it.effect("a runner that is restarted at its address has its shards again within a second", () =>
    Effect.gen(function*() {
      const { ignore, pass, start } = yield* make
      const a = yield* start("a")
      yield* pass(500)
      const b = yield* start("b")
      yield* pass(3000)
      const before = yield* a.shards
      yield* a.kill
      yield* ignore(a)
      const again = yield* start("a")
      yield* pass(1000)
      assert.strictEqual(yield* again.shards, before)
      assert.strictEqual(yield* b.shards, shards - before)
    }))

  it.effect("a runner that is restarted at its address with another weight gets another part", () =>
    Effect.gen(function*() {
      const { ignore, pass, start } = yield* make
      const a = yield* start("a")
      const b = yield* start("b")
      yield* pass(3000)
      const before = yield* a.shards
      yield* a.kill
      yield* ignore(a)
      const again = yield* start("a", identity, { runnerShardWeight: 3 })
      yield* pass(3000)
      assert.isAbove(yield* again.shards, before)
      assert.strictEqual((yield* again.shards) + (yield* b.shards), shards)
    }))

  it.effect("a call of a singleton carries its fence to an entity of the same runner, unless it is made without", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const kv = yield* Effect.flatMap(store.connect, Kv.make)
      const probe = Entity.make("Probe", [Rpc.make("CountFences", { success: Schema.Int })])
      const counts: Array<number> = []
      const served = probe.toLayer({ CountFences: () => Effect.map(Fence.Current, (fences) => fences.length) })
      const caller = KvSingleton.make(
        "caller",
        Effect.gen(function*() {
          const client = yield* probe.client
          counts.push(yield* client("x").CountFences(), yield* Fence.unfenced(client("x").CountFences()))
        }).pipe(Effect.orDie)
      )
      const cluster = yield* TestCluster.make({ sharding: { shardsPerGroup: 10 } })
      yield* cluster.start("a", { kv, layer: Layer.merge(caller, served) })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(counts, [1, 0])
    }))

  it.effect("during an outage longer than the leases nothing runs, and everything is back within a second after it", () =>
    Effect.gen(function*() {
      const { pass, start } = yield* make
      const a = yield* start("a")
      yield* pass(500)
      const b = yield* start("b")
      yield* pass(3000)
      yield* Effect.forEach([a, b], ({ faults }) => faults.partition({ requests: "refused" }))
      yield* pass(9000)
      assert.strictEqual((yield* a.shards) + (yield* b.shards), 0)
      yield* Effect.forEach([a, b], ({ faults }) => faults.heal)
      yield* pass(1000)
      assert.strictEqual((yield* a.shards) + (yield* b.shards), shards)
      const counts = yield* Effect.forkChild(incrementAll(a))
      yield* pass(1000)
      assert.deepStrictEqual(yield* Fiber.join(counts), ids.map(() => 1))
    }))

  for (const isFenced of [true, false]) {
    const what = isFenced ? "the store rejects what a thawed runner writes" : "without the fence it accepts it"
    it.effect(`a frozen runner loses its shards: ${what}`, () =>
      Effect.gen(function*() {
        const { changes, ignore, kv, pass, start } = yield* make
        const counters = isFenced ? fenced : unfenced
        const a = yield* start("a")
        yield* pass(500)
        // All work of `a`, which writes half a second after it begins.
        const late = yield* Effect.forkChild(
          Effect.forEach(ids, (id) => a.run(counters.incrementLater(id, 500)), { concurrency: "unbounded" })
        )
        yield* pass(250)
        yield* a.freeze
        yield* ignore(a)
        const b = yield* start("b")
        yield* pass(12_000)
        assert.strictEqual(yield* b.shards, shards)
        const counts = yield* Effect.forkChild(
          Effect.forEach(ids, (id) => b.run(counters.increment(id)), { concurrency: "unbounded" })
        )
        yield* pass(1000)
        yield* Fiber.join(counts)
        yield* a.thaw
        yield* pass(250)
        const states = yield* Effect.forEach(ids, (id) => Effect.map(counters.stateOf(kv, id), Option.getOrThrow))
        if (isFenced) {
          assert.isTrue(states.every(({ count, runner }) => count === 1 && runner === "b:1"))
          assert.deepStrictEqual(yield* Fiber.join(late), ids.map(() => "LockLost"))
          const ticks = changes.filter(({ key }) => key === "ticker").map(({ valueBytes }) =>
            new TextDecoder().decode(valueBytes)
          )
          assert.isAbove(ticks.lastIndexOf("b"), 0)
          assert.isBelow(ticks.lastIndexOf("a"), ticks.indexOf("b"), "the same holds for its singletons")
        } else {
          assert.isTrue(states.some(({ count, runner }) => count === 2 && runner === "a:1"), JSON.stringify(states))
          yield* Fiber.interrupt(late)
        }
        yield* pass(5000)
        assert.strictEqual((yield* a.shards) + (yield* b.shards), shards)
        assert.isAbove(yield* a.shards, 0)
        const kinds = violationsOf(changes, counters).map(({ kind }) => kind)
        assert.deepStrictEqual([...new Set(kinds)], isFenced ? [] : ["WriteWithoutLock"])
      }))
  }
})

describe("the store after a run, and random faults", () => {
  it.effect("leaves nothing in the store but the last machine id, and does the same each time", () =>
    Effect.gen(function*() {
      const scenario = Effect.gen(function*() {
        const { changes, kv, pass, start, store } = yield* make
        const a = yield* start("a")
        yield* pass(500)
        const b = yield* start("b")
        yield* pass(3000)
        yield* a.kill
        yield* pass(6500)
        const c = yield* start("c")
        yield* pass(3000)
        for (const runner of [b, c]) {
          const leaving = yield* Effect.forkChild(runner.leave)
          yield* pass(1000)
          yield* Fiber.join(leaving)
        }
        yield* kv.delete("ticker")
        const { keys, leases } = yield* store.statistics
        assert.deepStrictEqual({ keys, leases }, { keys: 1, leases: 0 })
        assert.deepStrictEqual(violationsOf(changes, fenced), [])
        return changes.map(traced)
      })
      const first = yield* Effect.scoped(scenario)
      const second = yield* Effect.scoped(scenario)
      assert.isAbove(first.length, 100)
      assert.deepStrictEqual(second, first)
    }))

  it.effect("the store's history reveals a runner that acquires locks that others hold", () =>
    Effect.gen(function*() {
      const { changes, ignore, pass, start } = yield* make
      yield* start("a")
      yield* pass(500)
      yield* ignore(yield* start("b", acquiringWhatIsHeld))
      yield* pass(3000)
      const kinds = violationsOf(changes, fenced).map(({ kind }) => kind)
      assert.deepStrictEqual([...new Set(kinds)], ["LockOverwritten"])
    }))

  for (const seed of [1, 2]) {
    it.effect(`under random faults no shard has two owners, and no stale write is accepted: seed ${seed}`, () =>
      Effect.gen(function*() {
        const { changes, ignore, pass, start } = yield* make
        const runners = yield* Effect.forEach(["a", "b", "c"], (host) => start(host))
        // What a runner says may be late, by one refresh: its lease ends behind its back.
        yield* Effect.forEach(runners, ignore)
        yield* pass(3000)
        yield* Effect.forEach(runners, ({ faults }, index) => faults.randomly({ seed: seed * 10 + index, ...rates }))
        const working = yield* Effect.forEach(
          runners,
          (runner) =>
            Effect.forEach(ids, (id) => Effect.exit(runner.run(fenced.incrementLater(id, 200))), {
              concurrency: "unbounded"
            }).pipe(Effect.andThen(Effect.sleep("500 millis")), Effect.forever, Effect.forkScoped)
        )
        yield* pass(10_000)
        yield* Effect.forEach(runners, ({ faults }) => faults.calm)
        yield* pass(15_000)
        yield* Effect.forEach(working, Fiber.interrupt)
        const owned = yield* Effect.forEach(runners, (runner) => runner.shards)
        assert.strictEqual(owned.reduce((sum, count) => sum + count), shards)
        assert.deepStrictEqual(violationsOf(changes, fenced), [])
        assert.isAbove(changes.filter(({ key }) => key.startsWith(fenced.keyOf(""))).length, 100)
      }))
  }

  it.effect("random faults with the same seed give the same trace, and with another seed another one", () =>
    Effect.gen(function*() {
      const traceOf = (seed: number) =>
        Effect.scoped(Effect.gen(function*() {
          const { changes, ignore, pass, start } = yield* make
          const runners = yield* Effect.forEach(["a", "b"], (host) => start(host))
          yield* Effect.forEach(runners, ignore)
          yield* pass(1500)
          yield* Effect.forEach(runners, ({ faults }, index) => faults.randomly({ seed: seed * 10 + index, ...rates }))
          yield* pass(5000)
          yield* Effect.forEach(runners, ({ faults }) => faults.calm)
          yield* pass(1500)
          return changes.map(traced)
        }))
      const first = yield* traceOf(1)
      assert.isAbove(first.length, 50)
      assert.deepStrictEqual(yield* traceOf(1), first)
      assert.notDeepEqual(yield* traceOf(2), first)
    }))
})
