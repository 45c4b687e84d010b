/**
 * A real store under Effect's `TestClock`, which stands still. Everything that concerns the store runs in real time.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { unlessStalled } from "./support/stalls.ts"

const realSleep = (duration: Duration.Input) => TestClock.withLive(Effect.sleep(duration))

/** How many real milliseconds the effect took. */
const realTime = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const from = performance.now()
    return Effect.map(effect, (value) => [performance.now() - from, value] as const)
  })

describe("etcd under a test clock", () => {
  it.effect("a call without a response ends at its deadline under a test clock", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "300 millis" })
      const [elapsed, failure] = yield* realTime(reason(kv.get("a")))
      assert.strictEqual(failure._tag, "DeadlineExceeded")
      assert.isAtLeast(elapsed, 295)
      assert.strictEqual((yield* reason(kv.put("a", "1")))._tag, "Indeterminate")
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.effect("a watch that is not confirmed fails at its deadline under a test clock", () =>
    Effect.gen(function*() {
      const { member } = yield* EtcdCluster.make()
      const proxy = yield* TcpProxy.make({ target: member.endpoint })
      const kv = yield* client({ endpoints: [proxy.endpoint], deadline: "2 seconds" })
      yield* Effect.scoped(kv.subscribe(KeyRange.key("a")))
      yield* proxy.blackhole()
      const [elapsed, failure] = yield* realTime(reason(Effect.scoped(kv.subscribe(KeyRange.key("a")))))
      assert.strictEqual(failure._tag, "DeadlineExceeded")
      assert.isAtLeast(elapsed, 1995)
    }))

  it.effect("a call to an unreachable server is retried and ends at its deadline under a test clock", () =>
    Effect.gen(function*() {
      const kv = yield* client({ endpoints: ["http://127.0.0.1:1"], deadline: "500 millis" })
      assert.strictEqual((yield* reason(kv.get("a")))._tag, "Unavailable")
    }))

  it.effect("a lock is renewed in real time under a test clock, and lost when its TTL passes without a response", () =>
    Effect.gen(function*() {
      const { member } = yield* EtcdCluster.make()
      const proxy = yield* TcpProxy.make({ target: member.endpoint })
      const kv = yield* client({ endpoints: [proxy.endpoint] })
      const lock = yield* Effect.provideService(DistLock.acquire("job", { ttl: "3 seconds" }), Kv.Kv, kv)
      yield* realSleep("4 seconds")
      assert.isTrue(yield* lock.isHeld)
      assert.isAtLeast(Duration.toMillis(yield* lock.heldFor), 3900)
      yield* proxy.blackhole()
      yield* Effect.flip(lock.lost)
      assert.isFalse(yield* lock.isHeld)
      yield* proxy.heal
    }).pipe(Effect.scoped, unlessStalled(3000)))

  it.effect("waiting for a lock, holding it and releasing it use real time under a test clock, also through an outage", () =>
    Effect.gen(function*() {
      const { member } = yield* EtcdCluster.make()
      const proxy = yield* TcpProxy.make({ target: member.endpoint })
      const kv = yield* client({ endpoints: [member.endpoint] })
      const other = yield* client({ endpoints: [proxy.endpoint], deadline: "500 millis" })
      const withLock = <A, E, R>(effect: Effect.Effect<A, E, R>, options: DistLock.Options, on = kv) =>
        Effect.provideService(DistLock.withDistLock(effect, "job", options), Kv.Kv, on)
      const held = yield* withLock(Effect.never, { maxHold: "300 millis" }).pipe(Effect.flip)
      assert.strictEqual(held._tag, "LockHoldExceeded")
      yield* withLock(
        Effect.gen(function*() {
          const waited = yield* Effect.flip(withLock(Effect.void, { acquireTimeout: "300 millis" }, other))
          assert.strictEqual(waited._tag, "LockTimeout")
          const waiting = yield* Effect.forkScoped(withLock(Effect.succeed("in turn"), { ttl: "60 seconds" }, other))
          yield* realSleep("300 millis")
          yield* proxy.down
          yield* realSleep("1 second")
          yield* proxy.up
          return waiting
        }),
        {}
      ).pipe(Effect.flatMap(Fiber.join), Effect.map((text) => assert.strictEqual(text, "in turn")))
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.effect("the body of a lock keeps the test's clock", () =>
    Effect.gen(function*() {
      const { member } = yield* EtcdCluster.make()
      const kv = yield* client({ endpoints: [member.endpoint] })
      const body = yield* Effect.forkChild(
        Effect.provideService(DistLock.withDistLock(Effect.sleep("1 hour"), "job"), Kv.Kv, kv)
      )
      yield* Effect.repeat(Effect.provideService(DistLock.holder("job"), Kv.Kv, kv), { until: Option.isSome })
      yield* realSleep("200 millis")
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(body)
    }))

  it.effect("a layer built on the real clock uses real time in a test with a test clock", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const build = Layer.build(
        EtcdLayer.layer({ endpoints: [fake.endpoint], deadline: "300 millis", batching: false })
      )
      const kv = Context.get(yield* TestClock.withLive(build), Kv.Kv)
      assert.strictEqual((yield* reason(kv.get("a")))._tag, "DeadlineExceeded")
    }).pipe(Effect.scoped, unlessStalled(1000)))
})
