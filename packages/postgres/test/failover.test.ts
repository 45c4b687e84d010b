/**
 * A real failover: a streaming replica is promoted, with and without the last writes of the old primary.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { connectTo, pair } from "./support/replication.ts"

/** Takes the keys of the next events of a watch. */
const take = Effect.fnUntraced(
  function*(watcher: Effect.Success<ReturnType<ReturnType<typeof backendOf>["watch"]>>, n: number) {
    const keys: Array<string> = []
    while (keys.length < n) {
      for (const { events } of yield* watcher.take) keys.push(...events.map(({ key }) => key))
    }
    return keys
  }
)

/** Holds a lock until `release`, and then writes under it. */
const hold = Effect.fnUntraced(function*(kv: Kv.Kv, name: string) {
  const held = yield* Deferred.make<void>()
  const release = yield* Deferred.make<void>()
  const fiber = yield* Effect.gen(function*() {
    yield* Deferred.succeed(held, undefined)
    yield* Deferred.await(release)
    yield* Deadline.within(kv.put(`${name}-result`, "1"), "20 seconds")
  }).pipe(DistLock.withDistLock(name), Effect.provideService(Kv.Kv, kv), Effect.forkChild)
  yield* Deferred.await(held)
  return { fiber, release: Deferred.succeed(release, undefined) }
})

describe("failover of Postgres", () => {
  it.live(
    "a replica with all writes takes over: locks are kept, and watches resume without a gap",
    () =>
      Effect.gen(function*() {
        const { address, caughtUp, move, promote } = yield* pair
        const kv = Context.get(yield* connectTo(address.port), Kv.Kv)
        const watcher = yield* backendOf(kv).watch({ range: KeyRange.prefix("k/") })
        const lock = yield* hold(kv, "lock")
        yield* kv.put("k/1", "1")
        yield* caughtUp
        yield* promote
        const put = yield* Effect.forkChild(Deadline.within(kv.put("k/2", "1"), "20 seconds"))
        yield* move
        yield* Fiber.join(put)
        yield* kv.put("k/3", "1")
        assert.deepStrictEqual(yield* take(watcher, 3), ["k/1", "k/2", "k/3"])
        yield* lock.release
        yield* Fiber.join(lock.fiber)
      }),
    60_000
  )

  it.live(
    "a replica that lacks writes takes over, and passes the revision that the client has seen: it is noticed",
    () =>
      Effect.gen(function*() {
        const { address, caughtUp, link, move, promote, standby } = yield* pair
        const kv = Context.get(yield* connectTo(address.port), Kv.Kv)
        yield* kv.put("kept", "1")
        yield* caughtUp
        yield* link.down
        const watcher = yield* backendOf(kv).watch({ range: KeyRange.prefix("none/") })
        const lock = yield* hold(kv, "lock")
        const { revision } = yield* kv.put("lost", "1")
        yield* promote
        const other = Context.get(yield* connectTo(standby.port), Kv.Kv)
        for (let i = 0; i < 10; i++) yield* other.put("passing", `${i}`)
        assert.isAbove(
          Number((yield* other.get("kept").pipe(Effect.andThen(other.put("passed", "1")))).revision),
          Number(revision)
        )
        yield* move
        assert.strictEqual((yield* Effect.flip(watcher.take)).reason._tag, "StoreReplaced")
        yield* lock.release
        assert.strictEqual((yield* Effect.flip(Fiber.join(lock.fiber)))._tag, "LockLost")
        assert.deepStrictEqual(yield* kv.get("lost"), Option.none())
        assert.deepStrictEqual(yield* kv.get("kept"), Option.some("1"))
      }),
    60_000
  )

  it.live(
    "a call that reaches a standby waits for its promotion, and then for the address to move",
    () =>
      Effect.gen(function*() {
        const { address, caughtUp, onStandby, primary, standby } = yield* pair
        const first = Context.get(yield* connectTo(address.port), Kv.Kv)
        yield* first.put("a", "1")
        yield* caughtUp
        yield* address.retarget(standby.port)
        const kv = Context.get(yield* connectTo(address.port), Kv.Kv)
        const reads = [kv.get("a"), kv.range(KeyRange.all), backendOf(kv).leaseTimeToLive(1n, { keys: true })]
        for (
          const call of [kv.put("a", "2"), ...reads].map((call) => Effect.asVoid<unknown, KvError.KvError, never>(call))
        ) {
          const error = yield* Effect.flip(Deadline.within(call, "300 millis"))
          assert.strictEqual(error.reason._tag, "Unavailable")
          assert.include(error.message, "standby")
        }
        const calls = yield* Effect.forkChild(
          Deadline.within(Effect.all([kv.get("a"), kv.put("b", "1")], { concurrency: 2 }), "20 seconds")
        )
        // The connections to the standby stay as they are: the client leaves them.
        yield* address.retarget(primary.port)
        yield* Fiber.join(calls)
        yield* address.retarget(standby.port)
        yield* address.cut
        const later = yield* Effect.forkChild(Deadline.within(kv.put("c", "1"), "20 seconds"))
        yield* caughtUp
        yield* primary.kill
        yield* onStandby`select pg_promote()`
        yield* Fiber.join(later)
        assert.deepStrictEqual(yield* kv.get("b"), Option.some("1"))
      }),
    60_000
  )
})
