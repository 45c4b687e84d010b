/**
 * What runner storage promises, as cases for every store. Each has keys of its own.
 */
import { KvRunnerHealth } from "@effect-kv/cluster"
import * as Fence from "@effect-kv/core/Fence"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import { assert } from "@effect/vitest"
import { RunnerAddress } from "effect/cluster"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import {
  address,
  endLeases,
  ids,
  keys,
  patient,
  processWith,
  registered,
  runner,
  shard,
  shardsUpTo
} from "./storages.ts"

const process = processWith(patient)

export interface StorageCase {
  readonly title: string
  /** The test, with a client of the store and the prefix of its keys. */
  readonly run: (kv: Kv.Kv, prefix: string) => Effect.Effect<void, unknown, Scope.Scope>
}

const test = (
  title: string,
  run: (kv: Kv.Kv, prefix: string) => Effect.fn.Return<void, unknown, Scope.Scope>
): StorageCase => ({ title, run: Effect.fnUntraced(run) })

const a = address("a")
const b = address("b")

export const cases: ReadonlyArray<StorageCase> = [
  test("a registered runner is listed at once, until it is unregistered", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const two = yield* process(kv, prefix)
    assert.deepStrictEqual(yield* registered(one.getRunners), [])
    yield* one.register(runner("a"), true)
    assert.deepStrictEqual(yield* registered(one.getRunners), ["a healthy"])
    yield* two.register(runner("b"), false)
    assert.deepStrictEqual(yield* registered(two.getRunners), ["a healthy", "b unhealthy"])
    yield* one.unregister(a)
    assert.deepStrictEqual(
      yield* Effect.repeat(registered(two.getRunners), { until: (all) => all.length === 1 }),
      ["b unhealthy"]
    )
    assert.notInclude(yield* keys(kv, prefix), "/runners/a:1")
  }),

  test("a runner that registers again keeps its machine id, and its health is written", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const two = yield* process(kv, prefix)
    const first = yield* one.register(runner("a"), true)
    const other = yield* two.register(runner("b"), true)
    assert.strictEqual(yield* one.register(runner("a"), false), first)
    assert.notStrictEqual(first, other)
    assert.deepStrictEqual(yield* registered(one.getRunners), ["a unhealthy", "b healthy"])
  }),

  test("machine ids begin at 1, and are not used again at once", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const two = yield* process(kv, prefix)
    assert.strictEqual(yield* one.register(runner("a"), true), 1)
    assert.strictEqual(yield* two.register(runner("b"), true), 2)
    yield* two.unregister(b)
    const three = yield* process(kv, prefix)
    assert.strictEqual(yield* three.register(runner("c"), true), 3)
  }),

  test("after the last machine id comes the first that is free", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    yield* one.register(runner("a"), true)
    yield* kv.put(`${prefix}/machine`, "1022")
    assert.strictEqual(yield* (yield* process(kv, prefix)).register(runner("b"), true), 1023)
    assert.strictEqual(yield* (yield* process(kv, prefix)).register(runner("c"), true), 2)
  }),

  test("runners that register at the same time get the lowest machine ids, each another one", function*(kv, prefix) {
    const machines = yield* Effect.forEach(
      shardsUpTo(20),
      ({ id }) => Effect.flatMap(process(kv, prefix), (each) => each.register(runner(`r${id}`), true)),
      {
        concurrency: "unbounded"
      }
    )
    assert.deepStrictEqual(machines.toSorted((a, b) => a - b), shardsUpTo(20).map(({ id }) => id))
  }),

  test("setRunnerHealth of another process keeps the registration's lease, and creates none", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const two = yield* process(kv, prefix)
    yield* one.register(runner("a"), true)
    const before = Option.getOrThrow(yield* kv.getEntry(`${prefix}/runners/a:1`))
    yield* two.setRunnerHealth(a, false)
    yield* two.setRunnerHealth(b, false)
    const after = Option.getOrThrow(yield* kv.getEntry(`${prefix}/runners/a:1`))
    assert.deepStrictEqual(after.lease, before.lease)
    assert.isTrue(Option.isSome(after.lease))
    assert.deepStrictEqual(yield* keys(kv, `${prefix}/runners`), ["/a:1"])
    assert.deepStrictEqual(
      yield* Effect.repeat(registered(one.getRunners), { until: ([first]) => first === "a unhealthy" }),
      ["a unhealthy"]
    )
  }),

  test(
    "a registration that is lost with its lease is missing, and is made again with the same machine id",
    function*(kv, prefix) {
      const one = yield* process(kv, prefix)
      const two = yield* process(kv, prefix)
      yield* two.register(runner("b"), true)
      const machineId = yield* one.register(runner("a"), true)
      yield* endLeases(kv, `${prefix}/runners/a`)
      assert.deepStrictEqual(
        yield* Effect.repeat(registered(one.getRunners), { until: (all) => all.length === 1 }),
        ["b healthy"]
      )
      assert.strictEqual(yield* one.register(runner("a"), true), machineId)
      assert.deepStrictEqual(yield* registered(one.getRunners), ["a healthy", "b healthy"])
    }
  ),

  test("a registration that cannot be decoded is left out, with one warning", function*(kv, prefix) {
    const logged: Array<unknown> = []
    const logger = Logger.make(({ message }) => void logged.push(message))
    const one = yield* process(kv, prefix)
    yield* kv.put(`${prefix}/runners/x:1`, "not a registration")
    yield* one.register(runner("a"), true)
    const runners = Effect.provideService(registered(one.getRunners), Logger.CurrentLoggers, new Set([logger]))
    assert.deepStrictEqual(yield* runners, ["a healthy"])
    assert.deepStrictEqual(yield* runners, ["a healthy"])
    assert.strictEqual(logged.length, 1)
    assert.include(String(logged[0]), "cannot be decoded")
  }),

  test(
    "acquire returns the free shards and those it holds, each once, and none that others hold",
    function*(kv, prefix) {
      const one = yield* process(kv, prefix)
      const two = yield* process(kv, prefix)
      assert.deepStrictEqual(yield* ids(one.acquire(a, [])), [])
      assert.deepStrictEqual(yield* ids(one.acquire(a, [shard(1), shard(2), shard(1)])), [1, 2])
      assert.deepStrictEqual(yield* ids(two.acquire(b, [shard(1), shard(2), shard(3)])), [3])
      assert.deepStrictEqual(yield* ids(one.acquire(a, [shard(2), shard(3), shard(4)])), [2, 4])
      assert.deepStrictEqual(yield* ids(one.acquire(a, [shard(1)])), [1], "not those it did not ask for")
      assert.deepStrictEqual(yield* ids(two.acquire(b, [shard(1), shard(2), shard(4)])), [])
    }
  ),

  test("two runners of one storage exclude each other like those of two", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(3))), [1, 2, 3])
    assert.deepStrictEqual(yield* ids(one.acquire(b, shardsUpTo(5))), [4, 5])
    assert.deepStrictEqual(yield* ids(one.refresh(b, shardsUpTo(5))), [4, 5])
    yield* one.release(b, shard(1))
    yield* one.releaseAll(b)
    assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(5))), [1, 2, 3])
  }),

  test("two runners that acquire the same shards at the same time get each shard once", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const two = yield* process(kv, prefix)
    const [first, second] = yield* Effect.all([
      ids(one.acquire(a, shardsUpTo(250))),
      ids(two.acquire(b, shardsUpTo(250).toReversed()))
    ], { concurrency: "unbounded" })
    assert.strictEqual(new Set([...first, ...second]).size, 250)
    assert.strictEqual(first.length + second.length, 250)
  }),

  test("refresh returns which of the requested shards are still held, each once", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const two = yield* process(kv, prefix)
    yield* one.acquire(a, shardsUpTo(40))
    assert.deepStrictEqual(yield* ids(one.refresh(a, [])), [])
    assert.deepStrictEqual(yield* ids(one.refresh(a, [shard(1), shard(1), shard(50)])), [1])
    assert.strictEqual((yield* one.refresh(a, shardsUpTo(60))).length, 40)
    assert.deepStrictEqual(yield* ids(two.refresh(b, shardsUpTo(40))), [])
    yield* kv.delete(`${prefix}/locks/default:7`)
    assert.deepStrictEqual(yield* ids(one.refresh(a, [shard(6), shard(7)])), [6])
    assert.deepStrictEqual(yield* ids(two.acquire(b, [shard(6), shard(7)])), [7])
    assert.strictEqual((yield* one.refresh(a, shardsUpTo(40))).length, 39)
  }),

  test("refresh succeeds when the leases are lost, and the shards can be acquired again", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    yield* one.register(runner("a"), true)
    yield* one.acquire(a, shardsUpTo(3))
    yield* endLeases(kv, prefix)
    assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(3))), [])
    assert.deepStrictEqual(yield* ids(one.refresh(a, [])), [])
    assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(3))), [1, 2, 3])
    assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(3))), [1, 2, 3])
  }),

  test("acquire forgets a lease that has ended, and acquires with a new one", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    yield* one.acquire(a, shardsUpTo(2))
    yield* endLeases(kv, prefix)
    assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(3))), [1, 2, 3])
  }),

  test("release frees a shard for others, and does nothing for a runner that does not hold it", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const two = yield* process(kv, prefix)
    yield* one.acquire(a, shardsUpTo(2))
    yield* two.release(b, shard(1))
    yield* two.acquire(b, [shard(3)])
    yield* two.release(b, shard(1))
    yield* one.release(b, shard(1))
    assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(2))), [1, 2])
    yield* one.release(a, shard(1))
    yield* one.release(a, shard(1))
    assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(2))), [2])
    assert.deepStrictEqual(yield* ids(two.acquire(b, shardsUpTo(2))), [1])
    yield* one.release(a, shard(1))
    assert.deepStrictEqual(yield* ids(two.refresh(b, shardsUpTo(3))), [1, 3])
  }),

  test(
    "locks that a call does not name stay, and a lock that was acquired many times is released once",
    function*(kv, prefix) {
      const one = yield* process(kv, prefix)
      const two = yield* process(kv, prefix)
      yield* one.acquire(a, [shard(1)])
      yield* one.acquire(a, [shard(2)])
      yield* one.acquire(a, [])
      yield* one.refresh(a, [shard(2)])
      assert.deepStrictEqual(yield* ids(two.acquire(b, shardsUpTo(2))), [])
      yield* Effect.repeat(one.acquire(a, [shard(1)]), { times: 5 })
      yield* one.release(a, shard(1))
      assert.deepStrictEqual(yield* ids(two.acquire(b, shardsUpTo(2))), [1])
      yield* one.release(a, shard(2))
      assert.deepStrictEqual(yield* ids(two.acquire(b, shardsUpTo(2))), [1, 2])
    }
  ),

  test(
    "while one runner ends all its locks and another acquires them, each has what it was told",
    function*(kv, prefix) {
      const one = yield* process(kv, prefix)
      const two = yield* process(kv, prefix)
      const holders = [{ storage: one, at: a }, { storage: two, at: b }] as const
      for (let round = 0; round < 6; round++) {
        const [from, to] = round % 2 === 0 ? holders : [holders[1], holders[0]]
        yield* from.storage.acquire(from.at, shardsUpTo(12))
        const [, got] = yield* Effect.all([
          from.storage.releaseAll(from.at),
          ids(to.storage.acquire(to.at, shardsUpTo(12)))
        ], { concurrency: "unbounded" })
        assert.deepStrictEqual(yield* ids(to.storage.refresh(to.at, shardsUpTo(12))), got)
        assert.deepStrictEqual(yield* ids(from.storage.refresh(from.at, shardsUpTo(12))), [])
        assert.strictEqual((yield* to.storage.acquire(to.at, shardsUpTo(12))).length, 12)
        yield* to.storage.releaseAll(to.at)
      }
    }
  ),

  test("releaseAll ends the locks of the runner, and not its registration", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const two = yield* process(kv, prefix)
    yield* one.register(runner("a"), true)
    yield* one.acquire(a, shardsUpTo(3))
    yield* two.acquire(b, [shard(4)])
    yield* one.releaseAll(a)
    yield* one.releaseAll(a)
    assert.deepStrictEqual(yield* registered(one.getRunners), ["a healthy"])
    assert.deepStrictEqual(yield* ids(two.acquire(b, [shard(1), shard(4)])), [1, 4])
    assert.deepStrictEqual(yield* ids(one.acquire(a, shardsUpTo(4))), [2, 3])
  }),

  test("a process that is restarted at its address takes over at once", function*(kv, prefix) {
    const crashed = yield* process(kv, prefix)
    const machineId = yield* crashed.register(runner("a"), true)
    yield* crashed.acquire(a, shardsUpTo(150))
    const peer = yield* process(kv, prefix)
    yield* peer.acquire(b, [shard(151)])
    const restarted = yield* process(kv, prefix)
    assert.notStrictEqual(yield* restarted.register(runner("a"), true), machineId, "the first may be frozen only")
    assert.strictEqual((yield* restarted.acquire(a, shardsUpTo(151))).length, 150)
    assert.deepStrictEqual(yield* ids(peer.refresh(b, [shard(151)])), [151], "another runner keeps its own")
    // The first process was only frozen.
    assert.deepStrictEqual(yield* ids(crashed.refresh(a, shardsUpTo(150))), [])
    assert.deepStrictEqual(yield* ids(crashed.acquire(a, shardsUpTo(150))), [])
    yield* crashed.releaseAll(a)
    assert.strictEqual((yield* restarted.refresh(a, shardsUpTo(150))).length, 150)
    assert.deepStrictEqual(yield* registered(restarted.getRunners), ["a healthy"])
  }),

  test("a process that has lost its registration does not end that of its successor", function*(kv, prefix) {
    const frozen = yield* process(kv, prefix)
    yield* frozen.register(runner("a"), true)
    yield* endLeases(kv, `${prefix}/runners`)
    const successor = yield* process(kv, prefix)
    yield* successor.register(runner("a"), true)
    yield* frozen.unregister(a)
    assert.deepStrictEqual(yield* keys(kv, `${prefix}/runners`), ["/a:1"])
    yield* frozen.unregister(a)
    assert.deepStrictEqual(yield* keys(kv, `${prefix}/runners`), ["/a:1"])
  }),

  test("clusters with different prefixes are independent", function*(kv, prefix) {
    const one = yield* process(kv, `${prefix}-1`)
    const two = yield* process(kv, `${prefix}-2`)
    assert.strictEqual(yield* one.register(runner("a"), true), 1)
    assert.strictEqual(yield* two.register(runner("a"), true), 1)
    yield* one.acquire(a, shardsUpTo(3))
    assert.deepStrictEqual(yield* ids(two.acquire(a, shardsUpTo(3))), [1, 2, 3])
    yield* two.releaseAll(a)
    yield* two.unregister(a)
    assert.deepStrictEqual(yield* registered(one.getRunners), ["a healthy"])
    assert.deepStrictEqual(yield* ids(one.refresh(a, shardsUpTo(3))), [1, 2, 3])
  }),

  test("a runner is alive as long as it is registered", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const health = yield* Effect.provideService(KvRunnerHealth.make({ prefix }), Kv.Kv, kv)
    assert.isFalse(yield* health.isAlive(a))
    yield* one.register(runner("a"), false)
    assert.isTrue(yield* health.isAlive(a))
    assert.isFalse(yield* health.isAlive(RunnerAddress.make("a", 2)))
    yield* one.unregister(a)
    assert.isFalse(yield* health.isAlive(a))
  }),

  test("the store rejects a write that is fenced by a shard's lock, once the lock is lost", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const two = yield* process(kv, prefix)
    const key = `${prefix}-state`
    yield* one.acquire(a, shardsUpTo(2))
    const fence = yield* one.locks.fence(a, shard(1))
    yield* Fence.provide(kv.put(key, "1"), fence)
    // The process notices nothing: only the store knows that the lock has another holder.
    yield* endLeases(kv, `${prefix}/locks`)
    assert.deepStrictEqual(yield* ids(two.acquire(b, [shard(1)])), [1])
    assert.isTrue(fence.isHeldUnsafe())
    const error = yield* Effect.flip(Fence.provide(kv.put(key, "stale"), fence))
    assert.strictEqual(error.reason._tag, "LockLost")
    assert.strictEqual(error.outcome, "NotApplied")
    assert.include(error.message, `${prefix}/locks/default:1`)
    assert.deepStrictEqual(yield* kv.get(key), Option.some("1"))
    yield* kv.put(key, "unfenced")
    assert.deepStrictEqual(yield* kv.get(key), Option.some("unfenced"), "without the fence it is applied")
  }),

  test("the fence of a lock stays lost when the same runner acquires the shard again", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    yield* one.acquire(a, shardsUpTo(1))
    const fence = yield* one.locks.fence(a, shard(1))
    yield* one.release(a, shard(1))
    yield* one.acquire(a, shardsUpTo(1))
    const later = yield* one.locks.fence(a, shard(1))
    const stale = yield* Effect.flip(Fence.provide(kv.put(`${prefix}-state`, "1"), fence))
    assert.strictEqual(stale.reason._tag, "LockLost")
    yield* Fence.provide(kv.put(`${prefix}-state`, "2"), later)
    const strange = yield* one.locks.fence(b, shard(1))
    const error = yield* Effect.flip(Fence.provide(kv.put(`${prefix}-state`, "3"), strange))
    assert.isTrue(KvError.isKvError(error) && error.reason._tag === "LockLost")
  }),

  test("a storage that is used by many fibers at once has one lease for all locks of a runner", function*(kv, prefix) {
    const one = yield* process(kv, prefix)
    const fibers = yield* Effect.forEach(shardsUpTo(30), (each) => Effect.forkChild(one.acquire(a, [each])))
    const acquired = yield* Effect.forEach(fibers, Fiber.join)
    assert.strictEqual(acquired.flat().length, 30)
    const leases = yield* Effect.forEach(
      shardsUpTo(30),
      ({ id }) => Effect.map(kv.getEntry(`${prefix}/locks/default:${id}`), (entry) => Option.getOrThrow(entry).lease)
    )
    assert.strictEqual(new Set(leases.map(Option.getOrThrow)).size, 1)
  })
]
