/**
 * Connections that die silently. A NAT or firewall forgets a flow: nothing is closed, and a new connection works at
 * once.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { timedWithoutStalls, unlessStalled } from "./support/stalls.ts"

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  /** A client with one proxy per endpoint. All proxies lead to the same server. */
  const connect = Effect.fnUntraced(function*(endpoints = 1) {
    const cluster = yield* EtcdCluster.EtcdCluster
    const proxies = yield* Effect.forEach(
      Array.from({ length: endpoints }),
      () => TcpProxy.make({ target: cluster.endpoints[0]! })
    )
    const kv = yield* client({ endpoints: proxies.map(({ endpoint }) => endpoint) })
    return {
      cluster,
      kv,
      proxy: proxies[0]!,
      opened: Effect.map(
        Effect.forEach(proxies, ({ stats }) => stats),
        (all) => all.reduce((sum, { opened }) => sum + opened, 0)
      ),
      /** Silences every open connection. */
      forget: Effect.forEach(proxies, ({ halfOpen }) => halfOpen, { discard: true })
    }
  })

  describe("a lock survives a forgotten flow", () => {
    const held = Effect.fnUntraced(function*(ttl: number, endpoints: number) {
      const { forget, kv } = yield* connect(endpoints)
      const body = Effect.andThen(forget, Effect.sleep((ttl + 1) * 1000))
      yield* DistLock.withDistLock(body, `ttl/${ttl}/${endpoints}`, { ttl: `${ttl} seconds` }).pipe(
        Effect.provideService(Kv.Kv, kv)
      )
    })
    it.effect(
      "a lock survives a forgotten flow with one, two or three endpoints and a TTL of 3, 5, 10 or 20 s",
      () =>
        Effect.forEach(
          [1, 2, 3].flatMap((endpoints) =>
            [3, 5, 10, 20].map((ttl) => unlessStalled(ttl * 1000)(Effect.scoped(held(ttl, endpoints))))
          ),
          (test) => test,
          { concurrency: "unbounded", discard: true }
        ),
      60_000
    )

    it.effect("a lock survives flows that are forgotten repeatedly", () =>
      Effect.gen(function*() {
        const { forget, kv } = yield* connect()
        const body = Effect.forEach(
          Array.from({ length: 6 }),
          () => Effect.andThen(forget, Effect.sleep("2500 millis"))
        )
        yield* Effect.provideService(DistLock.withDistLock(body, "again", { ttl: "3 seconds" }), Kv.Kv, kv)
      }).pipe(Effect.scoped, unlessStalled(3000)), 60_000)
  })

  it.effect("a read on a forgotten flow succeeds on a new connection, long before its deadline", () =>
    Effect.gen(function*() {
      const { forget, kv } = yield* connect()
      yield* kv.put("read", "1")
      for (let i = 0; i < 3; i++) {
        yield* forget
        const [elapsed, value] = yield* timedWithoutStalls(kv.get("read"))
        assert.deepStrictEqual(value, Option.some("1"))
        assert.isBelow(elapsed, 2500)
      }
    }))

  it.effect("calls that are each too short to detect a dead connection detect it together", () =>
    Effect.gen(function*() {
      const { forget, kv } = yield* connect()
      yield* kv.put("short", "1")
      yield* forget
      const short = Effect.exit(Deadline.within(kv.get("short"), "150 millis"))
      const [elapsed] = yield* timedWithoutStalls(Effect.repeat(short, { until: Exit.isSuccess }))
      assert.isBelow(elapsed, 2500)
    }))

  it.effect("a write on a forgotten flow is Indeterminate and never sent again, and the next write succeeds", () =>
    Effect.gen(function*() {
      const { cluster, forget, kv } = yield* connect()
      yield* kv.put("write", "before")
      const from = (yield* cluster.revision) + 1n
      yield* forget
      const fiber = yield* Effect.forkChild(
        timedWithoutStalls(reason(Deadline.within(kv.put("write", "lost"), "20 seconds")))
      )
      yield* Effect.sleep("1 second")
      const [next] = yield* timedWithoutStalls(kv.put("write", "next"))
      assert.isBelow(next, 2000)
      const [elapsed, failure] = yield* Fiber.join(fiber)
      assert.strictEqual(failure._tag, "Indeterminate")
      assert.isBelow(elapsed, 6000)
      const history = yield* cluster.watchFrom(from)
      const values = (yield* history.upTo(yield* cluster.revision)).map(({ value }) => value)
      assert.deepStrictEqual(values, ["next"])
    }))

  it.effect(
    "a write after a long pause is not sent on a flow that was forgotten during the pause",
    () =>
      Effect.gen(function*() {
        const { forget, kv } = yield* connect()
        yield* kv.put("pause", "1")
        yield* Effect.sleep("21 seconds")
        yield* forget
        const [elapsed] = yield* timedWithoutStalls(kv.put("pause", "2"))
        assert.isBelow(elapsed, 2500)
      }),
    60_000
  )

  it.effect("an idle watch on a forgotten flow continues on a new connection within seconds and misses no event", () =>
    Effect.gen(function*() {
      const { cluster, forget, kv } = yield* connect()
      const watcher = yield* backendOf(kv).watch({ range: KeyRange.key("idle") })
      yield* forget
      yield* cluster.etcdctl(["put", "idle", "1"])
      const [elapsed, batches] = yield* timedWithoutStalls(watcher.take)
      assert.strictEqual(batches[0]?.events[0]?.key, "idle")
      assert.isBelow(elapsed, 10_000)
    }))

  it.effect("a watch changes its connection as soon as the calls to its endpoint have to", () =>
    Effect.gen(function*() {
      const { cluster, forget, kv } = yield* connect()
      const watcher = yield* backendOf(kv).watch({ range: KeyRange.key("both") })
      yield* kv.get("both")
      yield* forget
      yield* cluster.etcdctl(["put", "both", "1"])
      yield* kv.get("both")
      const [elapsed] = yield* timedWithoutStalls(watcher.take)
      assert.isBelow(elapsed, 2500)
    }))

  it.effect("a client of a paused server opens few connections, keeps its old ones, and gets its responses on them after the resume", () =>
    Effect.gen(function*() {
      const { cluster, kv, opened, proxy } = yield* connect()
      yield* Effect.scoped(kv.subscribe(KeyRange.key("paused")))
      yield* kv.put("paused", "0")
      const before = yield* opened
      const lost = yield* Effect.acquireUseRelease(
        cluster.member.pause,
        () =>
          Effect.gen(function*() {
            const late = yield* Effect.forkChild(Deadline.within(kv.put("paused", "1"), "30 seconds"))
            yield* Effect.forEach(
              Array.from({ length: 20 }),
              () => Effect.exit(Deadline.within(kv.get("paused"), "400 millis"))
            )
            return late
          }),
        () => cluster.member.resume
      )
      yield* Fiber.join(lost)
      assert.isBelow((yield* opened) - before, 8)
      assert.deepStrictEqual(yield* kv.get("paused"), Option.some("1"))
      yield* Effect.repeat(proxy.stats, { until: ({ live }) => live <= 2 })
    }))
})

describe("a slow server", () => {
  it.live("a slow server is not mistaken for a dead connection: the client opens no other, and the response arrives", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const proxy = yield* TcpProxy.make({ target: fake.endpoint })
      const kv = yield* client({ endpoints: [proxy.endpoint], deadline: "3 seconds" })
      assert.strictEqual((yield* reason(kv.put("a", "1")))._tag, "Indeterminate")
      assert.strictEqual((yield* proxy.stats).opened, 1)
    }).pipe(Effect.scoped, unlessStalled(3000)))
})
