/**
 * A real server behind a faulty network: how calls end, and what the server's own history says about writes.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { client, reason } from "./support/client.ts"
import { timedWithoutStalls } from "./support/stalls.ts"
import { eventually } from "./support/watching.ts"

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  const connect = Effect.fnUntraced(function*(deadline: "500 millis" | "5 seconds") {
    const cluster = yield* EtcdCluster.EtcdCluster
    const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
    return { cluster, proxy, kv: yield* client({ endpoints: [proxy.endpoint], deadline }) }
  })

  /** How often the server applied each value. */
  const writes = Effect.fnUntraced(function*(from: bigint) {
    const cluster = yield* EtcdCluster.EtcdCluster
    const history = yield* cluster.watchFrom(from)
    const counts = new Map<string, number>()
    for (const { value } of yield* history.upTo(yield* cluster.revision)) {
      counts.set(value, (counts.get(value) ?? 0) + 1)
    }
    return counts
  })

  /**
   * Cuts the connections again and again. Each cut waits until a call has succeeded since the last one: on a busy machine
   * connections would otherwise end before their first response, and the client would wait longer and longer.
   */
  const breaking = (proxy: TcpProxy.TcpProxy, succeeded: () => number) =>
    Effect.gen(function*() {
      while (true) {
        const before = succeeded()
        yield* Effect.sleep("20 millis")
        yield* eventually(Effect.sync(() => succeeded() > before))
        yield* proxy.cut
      }
    })

  describe("writes", () => {
    it.effect("a write whose response is lost is Indeterminate and applied once, and a write that never arrives is not applied", () =>
      Effect.gen(function*() {
        const { cluster, proxy, kv } = yield* connect("5 seconds")
        const from = (yield* cluster.revision) + 1n
        yield* kv.put("w", "first")
        const outcomes = new Map<string, string>()
        for (let i = 0; i < 10; i++) {
          const isLost = i % 2 === 0
          yield* isLost ? proxy.cutAfterForwarding() : proxy.cutBeforeForwarding()
          const failure = yield* reason(kv.put("w", `${i}`))
          outcomes.set(`${i}`, failure._tag)
          yield* kv.get("w")
        }
        assert.deepStrictEqual(new Set(outcomes.values()), new Set(["Indeterminate"]))
        const counts = yield* writes(from)
        for (let i = 0; i < 10; i++) assert.strictEqual(counts.get(`${i}`) ?? 0, i % 2 === 0 ? 1 : 0)
      }))

    it.effect("writes are confirmed or Indeterminate and applied at most once while connections keep breaking", () =>
      Effect.gen(function*() {
        const { cluster, proxy, kv } = yield* connect("5 seconds")
        const from = (yield* cluster.revision) + 1n
        let confirmed = 0
        const cutting = yield* Effect.forkChild(breaking(proxy, () => confirmed))
        const put = (i: number) =>
          Effect.tap(kv.put(`many/${i % 20}`, `v${i}`), () => Effect.sync(() => confirmed += 1))
        const results = yield* Effect.forEach(
          Array.from({ length: 2000 }, (_, i) => i),
          (i) => Effect.exit(put(i)),
          { concurrency: 16 }
        )
        yield* Fiber.interrupt(cutting)
        const counts = yield* writes(from)
        let indeterminate = 0
        results.forEach((exit, i) => {
          const applied = counts.get(`v${i}`) ?? 0
          if (Exit.isSuccess(exit)) return assert.strictEqual(applied, 1)
          const error = Option.getOrThrow(Exit.findErrorOption(exit))
          // On a slow machine there may be no connection for long enough to send the request.
          if (error.outcome === "NotApplied") return assert.strictEqual(applied, 0, error.message)
          assert.strictEqual(error.reason._tag, "Indeterminate", error.message)
          assert.isAtMost(applied, 1)
          indeterminate += 1
        })
        assert.isAbove(indeterminate, 0)
        assert.isAbove(results.length - indeterminate, 100)
      }))

    it.effect("a write that cannot be sent waits for a connection and is then sent once", () =>
      Effect.gen(function*() {
        const { cluster, proxy, kv } = yield* connect("5 seconds")
        yield* kv.put("w", "0")
        const from = (yield* cluster.revision) + 1n
        yield* proxy.down
        // After a read has noticed, the write knows that there is no connection.
        assert.strictEqual((yield* reason(Deadline.within(kv.get("w"), "300 millis")))._tag, "Unavailable")
        const fiber = yield* Effect.forkChild(kv.put("w", "waited"))
        yield* Effect.sleep("300 millis")
        yield* proxy.up
        yield* Fiber.join(fiber)
        assert.strictEqual((yield* writes(from)).get("waited"), 1)
      }))
  })

  describe("reads", () => {
    it.effect("reads succeed while connections keep breaking", () =>
      Effect.gen(function*() {
        const { proxy, kv } = yield* connect("5 seconds")
        yield* kv.put("r", "1")
        let read = 0
        const cutting = yield* Effect.forkChild(breaking(proxy, () => read))
        const get = Effect.tap(kv.get("r"), () => Effect.sync(() => read += 1))
        yield* Effect.forEach(Array.from({ length: 1000 }), () => get, { concurrency: 16 })
        yield* Fiber.interrupt(cutting)
      }))

    it.effect("a read of several megabytes is complete", () =>
      Effect.gen(function*() {
        const { kv } = yield* connect("5 seconds")
        const value = "x".repeat(1_000_000)
        for (let i = 0; i < 12; i++) yield* kv.put(`large/${i}`, value)
        const { entries } = yield* kv.range(KeyRange.prefix("large/"))
        assert.strictEqual(entries.reduce((sum, entry) => sum + entry.size, 0), 12_000_000)
        yield* kv.deleteRange(KeyRange.prefix("large/"))
      }))
  })

  describe("a link that dies silently", () => {
    const silences: ReadonlyArray<readonly [string, (proxy: TcpProxy.TcpProxy) => Effect.Effect<void>]> = [
      ["holds back all data", (proxy) => proxy.blackhole()],
      ["loses all data", (proxy) => proxy.blackhole({ drop: true })],
      ["loses all responses", (proxy) => proxy.dropResponses]
    ]
    for (const [how, silence] of silences) {
      it.effect(`on a link that ${how}, every call ends at its deadline, interruption is immediate, and calls succeed after it heals`, () =>
        Effect.gen(function*() {
          const { cluster, proxy, kv } = yield* connect("500 millis")
          yield* kv.put("dead", "0")
          const from = (yield* cluster.revision) + 1n
          yield* silence(proxy)
          const watch = Effect.scoped(backendOf(kv).watch({ range: KeyRange.all }))
          const calls: ReadonlyArray<readonly [string, Effect.Effect<unknown, KvError>]> = [
            ["DeadlineExceeded", kv.get("dead")],
            ["DeadlineExceeded", kv.range(KeyRange.all)],
            ["Indeterminate", kv.put("dead", "1")],
            ["Indeterminate", kv.delete("dead")],
            ["Indeterminate", kv.txn({ then: [Op.put("dead/a", "1"), Op.put("dead/b", "1")] })],
            ["Indeterminate", backendOf(kv).leaseGrant({ ttl: "60 seconds" })],
            ["DeadlineExceeded", backendOf(kv).leaseKeepAlive(1n)],
            ["Indeterminate", backendOf(kv).leaseRevoke(1n)],
            ["DeadlineExceeded", backendOf(kv).leaseTimeToLive(1n)],
            ["DeadlineExceeded", watch]
          ]
          const results = yield* Effect.forEach(calls, ([, call]) => timedWithoutStalls(reason(call)), {
            concurrency: "unbounded"
          })
          results.forEach(([elapsed, failure, whole], i) => {
            // A watch needs its own connection, which may never have existed.
            const wanted = calls[i]![1] === watch ? [calls[i]![0], "Unavailable"] : [calls[i]![0]]
            assert.include(wanted, failure._tag)
            assert.isTrue(whole >= 495 && elapsed < 3000, `${elapsed} of ${whole} ms`)
          })
          for (const [, call] of calls) {
            const fiber = yield* Effect.forkChild(Deadline.within(call, "20 seconds"))
            yield* Effect.sleep("20 millis")
            const [elapsed] = yield* timedWithoutStalls(Fiber.interrupt(fiber))
            assert.isBelow(elapsed, 3000)
          }
          yield* proxy.heal
          // A write may rightly be Indeterminate here: its connection lost bytes and breaks.
          const [elapsed] = yield* timedWithoutStalls(Deadline.within(kv.get("dead"), "5 seconds"))
          assert.isBelow(elapsed, 5000)
          yield* kv.put("dead", "3")
          // `1` was put twice: by the call that reached its deadline and by the one that was interrupted.
          const counts = yield* writes(from)
          assert.strictEqual(counts.get("3"), 1)
          assert.isAtMost(counts.get("1") ?? 0, 6)
        }))
    }

    it.effect("pings find a dead link, after which calls continue on a new connection", () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
        const kv = yield* client({
          endpoints: [proxy.endpoint],
          deadline: "500 millis",
          keepAlive: { time: "1 second", timeout: "500 millis" }
        })
        yield* kv.get("a")
        const { opened } = yield* proxy.stats
        yield* proxy.blackhole()
        yield* Effect.repeat(Effect.exit(kv.get("a")), {
          until: () => Effect.map(proxy.stats, (stats) => stats.opened > opened)
        })
        yield* proxy.heal
        yield* Effect.retry(kv.get("a"), { times: 5 })
      }))

    it.effect("calls to a paused server end at their deadline and succeed after it resumes", () =>
      Effect.gen(function*() {
        const { cluster, kv } = yield* connect("500 millis")
        yield* kv.put("paused", "0")
        yield* Effect.acquireUseRelease(
          cluster.member.pause,
          () =>
            Effect.gen(function*() {
              // The server may still respond for a moment.
              const failure = yield* Effect.flip(Effect.forever(kv.get("paused")))
              assert.strictEqual(failure.reason._tag, "DeadlineExceeded")
              // Half a second after the first call without a response, nothing more is sent on the connection.
              assert.include(["Indeterminate", "Unavailable"], (yield* reason(kv.put("paused", "1")))._tag)
            }),
          () => cluster.member.resume
        )
        yield* Effect.retry(kv.get("paused"), { times: 5 })
      }))
  })

  it.effect("reads, and writes that were not sent, wait for a server that restarts", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const kv = yield* client({ endpoints: cluster.endpoints, deadline: "20 seconds" })
      yield* kv.put("restart", "0")
      yield* cluster.member.kill
      assert.strictEqual((yield* reason(Deadline.within(kv.get("restart"), "300 millis")))._tag, "Unavailable")
      const reading = yield* Effect.forkChild(kv.get("restart"))
      const writing = yield* Effect.forkChild(kv.put("restart", "1"))
      yield* Effect.sleep("300 millis")
      yield* cluster.member.start
      yield* Fiber.join(writing)
      yield* Fiber.join(reading)
      assert.deepStrictEqual(yield* kv.get("restart"), Option.some("1"))
    }))
})

describe("unreachable endpoints", () => {
  it.live("a watch that cannot open names the unreachable endpoints, also if its deadline is shorter than the layer's", () =>
    Effect.gen(function*() {
      const silent = yield* TcpProxy.make({ target: 1 })
      yield* silent.blackhole()
      const cases = [["http://127.0.0.1:1", "ECONNREFUSED 127.0.0.1:1"], [
        silent.endpoint,
        "not connected yet"
      ]] as const
      for (const [endpoint, cause] of cases) {
        const kv = yield* client({ endpoints: [endpoint] })
        const failure = yield* reason(Effect.scoped(Deadline.within(kv.subscribe(KeyRange.key("a")), "500 millis")))
        assert.strictEqual(failure._tag, "Unavailable")
        assert.include(failure.message, `${endpoint}: `)
        assert.include(failure.message, cause)
      }
    }))

  it.live("a call that reaches its deadline names each unreachable endpoint and its problem", () =>
    Effect.gen(function*() {
      const silent = yield* TcpProxy.make({ target: 1 })
      yield* silent.blackhole()
      const endpoints = ["http://127.0.0.1:1", "http://name.invalid:2379", silent.endpoint]
      const kv = yield* client({ endpoints, deadline: "1 second" })
      // A user without a token can make no call.
      const user = yield* client({
        endpoints,
        deadline: "1 second",
        auth: { username: "app", password: Redacted.make("hunter2") }
      })
      const calls = [
        kv.get("a"),
        kv.put("a", "1"),
        backendOf(kv).leaseGrant({ ttl: "5 seconds" }),
        user.put("a", "1"),
        Effect.scoped(kv.subscribe(KeyRange.key("a")))
      ]
      for (const call of calls) {
        const [elapsed, failure, whole] = yield* timedWithoutStalls(
          reason<unknown>(call as Effect.Effect<unknown, KvError>)
        )
        assert.strictEqual(failure._tag, "Unavailable")
        assert.isTrue(whole >= 995 && elapsed < 3000, `${elapsed} of ${whole} ms`)
        assert.match(failure.message, /ECONNREFUSED 127\.0\.0\.1:1/)
        assert.match(failure.message, /name\.invalid/)
        assert.include(failure.message, silent.endpoint)
      }
    }))
})
