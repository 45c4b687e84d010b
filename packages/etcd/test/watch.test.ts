/**
 * Watches on a real server behind a faulty link: their events, their errors, and what they leave on the server.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as Op from "@effect-kv/core/Op"
import type * as Watch from "@effect-kv/core/Watch"
import * as EtcdClient from "@effect-kv/etcd/EtcdClient"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import * as Peer from "./grpc/support/Peer.ts"
import { client, reason, services } from "./support/client.ts"
import { total } from "./support/metrics.ts"
import { timedWithoutStalls } from "./support/stalls.ts"
import { batchesUpTo, eventually, linesOf, untilStatus, watch, watcherCount } from "./support/watching.ts"

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  /** A client behind a proxy, one without, and a prefix that no other test uses. */
  let prefixes = 0
  const setUp = Effect.gen(function*() {
    const cluster = yield* EtcdCluster.EtcdCluster
    const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
    const prefix = `${prefixes++}/`
    return {
      cluster,
      proxy,
      prefix,
      range: KeyRange.prefix(prefix),
      kv: yield* client({ endpoints: [proxy.endpoint] }),
      direct: yield* client({ endpoints: cluster.endpoints })
    }
  })

  describe("a server whose limit on streams is reached", () => {
    it.effect("a watch that finds no room for its stream fails at its deadline with that reason", () =>
      Effect.gen(function*() {
        const full = yield* Peer.make({ settings: { 3: 0 } })
        const kv = yield* client({ endpoints: [`http://127.0.0.1:${full.port}`] })
        const opening = Effect.scoped(kv.subscribe(KeyRange.key("a")))
        const failure = yield* reason(Deadline.within(opening, "2 seconds"))
        assert.strictEqual(failure._tag, "Unavailable")
        assert.match(failure.message, /the server's limit of 0 streams at a time is reached/)
      }))

    it.effect("a watch opens its stream on another endpoint", () =>
      Effect.gen(function*() {
        const full = yield* Peer.make({ settings: { 3: 0 } })
        const { cluster } = yield* setUp
        const endpoints = [`http://127.0.0.1:${full.port}`, ...cluster.endpoints]
        // The first endpoint is random; this many attempts hit both.
        const opening = Effect.flatMap(client({ endpoints }), (kv) => watch(kv, KeyRange.key("a")))
        yield* Effect.all(Array.from({ length: 8 }, () => Deadline.within(opening, "20 seconds")), {
          concurrency: "unbounded"
        })
        assert.isAtLeast(full.connections.length, 1)
      }))
  })

  describe("a link that breaks", () => {
    it.effect("a broken link costs no event, and the status shows the interruption", () =>
      Effect.gen(function*() {
        const { direct, kv, prefix, proxy, range } = yield* setUp
        const before = yield* total(KvMetrics.watchReconnects)
        const watcher = yield* watch(kv, range)
        const statuses: Array<string> = []
        yield* Effect.forkScoped(
          Stream.runForEach(watcher.status, ({ _tag }) => Effect.sync(() => statuses.push(_tag)))
        )
        yield* direct.put(`${prefix}a`, "1")
        yield* batchesUpTo(watcher, (yield* direct.put(`${prefix}a`, "2")).revision)
        yield* proxy.down
        yield* untilStatus(watcher, "Interrupted")
        yield* direct.txn({ then: [Op.put(`${prefix}a`, "3"), Op.put(`${prefix}b`, "3")] })
        const { revision } = yield* direct.delete(`${prefix}a`)
        yield* proxy.up
        const lines = linesOf(yield* batchesUpTo({ ...watcher, revision: 0n }, revision))
        assert.deepStrictEqual(lines, [
          `${revision - 1n} put ${prefix}a=3, put ${prefix}b=3`,
          `${revision} delete ${prefix}a`
        ])
        yield* eventually(Effect.sync(() => statuses.length > 2 && statuses.at(-1) === "Live"))
        assert.deepStrictEqual(statuses.slice(0, 2), ["Live", "Interrupted"])
        assert.isAbove(yield* total(KvMetrics.watchReconnects), before)
      }))

    it.effect("watch metrics count watches by state, and the events that have not been taken", () =>
      Effect.gen(function*() {
        const { direct, prefix, proxy, range } = yield* setUp
        const kv = yield* client({ endpoints: [proxy.endpoint] })
        const states = Effect.all(["live", "waiting", "parked"].map((state) => total(KvMetrics.watches, { state })))
        const watcher = yield* watch(kv, range)
        assert.deepStrictEqual(yield* states, [1, 0, 0])
        yield* direct.put(`${prefix}a`, "x".repeat(10_000))
        yield* eventually(Effect.map(total(KvMetrics.watchBuffered), (bytes) => bytes >= 10_000))
        yield* watcher.take
        assert.strictEqual(yield* total(KvMetrics.watchBuffered), 0)
        yield* proxy.down
        yield* untilStatus(watcher, "Interrupted")
        assert.deepStrictEqual(yield* states, [0, 1, 0])
        yield* direct.put("elsewhere", "1")
        yield* proxy.up
        yield* untilStatus(watcher, "Live")
        assert.deepStrictEqual(yield* states, [1, 0, 0])
        // The client learns of later revisions by its calls. The watch has seen neither of these two, of other keys.
        yield* kv.put("elsewhere", "2")
        assert.strictEqual(yield* total(KvMetrics.watchLag), 2)
      }).pipe(Effect.provideService(Metric.MetricRegistry, new Map())))

    it.effect("a broken link is recorded on the span that opened the watch, or on its parent span if that has ended", () =>
      Effect.gen(function*() {
        const { kv, proxy, range } = yield* setUp
        const spans = new Map<string, Tracer.NativeSpan>()
        const tracer = Tracer.make({
          span: (options) => {
            const span = new Tracer.NativeSpan(options)
            spans.set(span.name, span)
            return span
          }
        })
        const events = (name: string) => spans.get(name)!.events.map(([event]) => event)
        const cut = Effect.fnUntraced(function*(watcher: Watch.Watcher) {
          yield* proxy.down
          yield* untilStatus(watcher, "Interrupted")
          yield* proxy.up
          yield* untilStatus(watcher, "Live")
        })
        yield* Effect.gen(function*() {
          const watcher = yield* Effect.withSpan(
            Effect.tap(watch(kv, range), cut),
            "opening"
          )
          assert.deepStrictEqual(events("opening"), ["watch interrupted", "watch live"])
          assert.deepStrictEqual(events("around"), [])
          yield* cut(watcher)
        }).pipe(Effect.withSpan("around"), Effect.withTracer(tracer))
        assert.deepStrictEqual(events("opening").length, 2)
        assert.strictEqual(spans.get("watch")!.attributes.get("server.port"), Number(new URL(proxy.endpoint).port))
        assert.deepStrictEqual(events("around"), ["watch interrupted", "watch live"])
      }))

    it.effect("an idle watch resumes at its revision after the link breaks", () =>
      Effect.gen(function*() {
        const { direct, kv, prefix, proxy, range } = yield* setUp
        const watcher = yield* watch(kv, range)
        for (let i = 0; i < 5; i++) yield* direct.put("elsewhere", `${i}`)
        for (let i = 0; i < 5; i++) {
          yield* proxy.cut
          yield* untilStatus(watcher, "Live")
        }
        const { revision } = yield* direct.put(`${prefix}a`, "1")
        assert.deepStrictEqual(linesOf(yield* batchesUpTo(watcher, revision)), [`${revision} put ${prefix}a=1`])
      }))

    it.effect("a watch whose endpoint stalls while it is opened fails over within seconds, however long the deadline", () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
        const endpoints = [proxy.endpoint, ...cluster.endpoints]
        // The first endpoint is random; this many clients hit both.
        const clients = yield* Effect.replicateEffect(client({ endpoints, deadline: "1 hour" }), 8)
        // Calls are already connected. Watches are about to open their own connection.
        for (const kv of clients) yield* kv.put("silent", "1")
        yield* proxy.blackhole()
        const opened = Effect.forEach(clients, (kv) => watch(kv, KeyRange.key("silent")), { concurrency: "unbounded" })
        const [elapsed] = yield* timedWithoutStalls(opened)
        assert.isBelow(elapsed, 10_000)
      }))

    it.effect("interrupting take loses no event", () =>
      Effect.gen(function*() {
        const { direct, kv, prefix, range } = yield* setUp
        const watcher = yield* watch(kv, range)
        const writing = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 300 }, (_, i) => i), (i) => direct.put(`${prefix}${i}`, ""))
        )
        const taken: Array<Watch.Revision> = []
        while (taken.length < 300) {
          const batches = yield* Effect.timeoutOption(watcher.take, 1)
          if (batches._tag === "Some") taken.push(...batches.value)
        }
        const writes = yield* Fiber.join(writing)
        assert.deepStrictEqual(taken.map(({ revision }) => revision), writes.map(({ revision }) => revision))
      }))
  })

  describe("compaction", () => {
    it.effect("a compaction past a disconnected watch is reported within two seconds after reconnecting, and other watches continue", () =>
      Effect.gen(function*() {
        const { cluster, direct, kv, prefix, proxy, range } = yield* setUp
        const behind = yield* watch(kv, range)
        const ahead = yield* watch(kv, range, { startRevision: (yield* cluster.revision) + 4n })
        yield* batchesUpTo(behind, (yield* direct.put(`${prefix}a`, "1")).revision)
        yield* proxy.down
        yield* untilStatus(behind, "Interrupted")
        yield* direct.put(`${prefix}a`, "2")
        const { revision } = yield* direct.put(`${prefix}a`, "3")
        yield* cluster.compact(revision)
        yield* proxy.up
        const [elapsed, failure] = yield* timedWithoutStalls(reason(behind.take))
        assert.isBelow(elapsed, 2000)
        assert.isTrue(failure._tag === "Compacted" && Option.contains(failure.compactRevision, revision))
        assert.strictEqual((yield* reason(behind.take))._tag, "Compacted", "every later take fails too")
        const { revision: next } = yield* direct.put(`${prefix}a`, "4")
        assert.deepStrictEqual(linesOf(yield* batchesUpTo(ahead, next)), [`${next} put ${prefix}a=4`])
      }))

    it.effect("a compaction at the revision where a watch resumes hides no delete", () =>
      Effect.gen(function*() {
        const { cluster, direct, kv, prefix, proxy, range } = yield* setUp
        const watcher = yield* watch(kv, range)
        yield* batchesUpTo(watcher, (yield* direct.put(`${prefix}a`, "1")).revision)
        yield* proxy.down
        yield* untilStatus(watcher, "Interrupted")
        const { revision } = yield* direct.delete(`${prefix}a`)
        yield* cluster.compact(revision)
        yield* proxy.up
        const failure = yield* reason(watcher.take)
        assert.isTrue(failure._tag === "Compacted" && Option.contains(failure.compactRevision, revision))
      }))

    it.effect("a compaction of events that were already delivered does not affect the watch", () =>
      Effect.gen(function*() {
        const { cluster, direct, kv, prefix, proxy, range } = yield* setUp
        const watcher = yield* watch(kv, range)
        const { revision } = yield* direct.put(`${prefix}a`, "1")
        yield* batchesUpTo(watcher, revision)
        yield* proxy.down
        yield* untilStatus(watcher, "Interrupted")
        yield* cluster.compact(revision)
        yield* proxy.up
        const { revision: next } = yield* direct.put(`${prefix}a`, "2")
        const lines = linesOf(yield* batchesUpTo({ ...watcher, revision }, next))
        assert.deepStrictEqual(lines, [`${next} put ${prefix}a=2`])
      }))
  })

  describe("a backlog", () => {
    it.effect("a backlog in messages above the connection's limit arrives complete and in order, and no revision is split", () =>
      Effect.gen(function*() {
        const { direct, kv, prefix, range } = yield* setUp
        const value = "x".repeat(100_000)
        const revisions: Array<bigint> = []
        for (let i = 0; i < 40; i++) {
          const then = Array.from({ length: 10 }, (_, k) => Op.put(`${prefix}${k}`, value))
          revisions.push((yield* direct.txn({ then })).revision)
        }
        const neighbour = yield* watch(kv, KeyRange.key(`${prefix}neighbour`))
        const watcher = yield* watch(kv, range, { startRevision: revisions[0]! })
        const batches = yield* batchesUpTo(watcher, revisions.at(-1)!)
        assert.deepStrictEqual(batches.map(({ revision }) => revision), revisions)
        assert.isTrue(batches.every(({ events }) => events.length === 10))
        const { revision } = yield* direct.put(`${prefix}neighbour`, "")
        assert.strictEqual((yield* batchesUpTo(neighbour, revision)).length, 1)
      }))
  })

  describe("watches on the server", () => {
    it.effect("closing a watch's scope removes the watch from the server, and the others stay", () =>
      Effect.gen(function*() {
        const { kv, range } = yield* setUp
        yield* eventually(Effect.map(watcherCount(), (count) => count === 0))
        const staying = yield* watch(kv, range)
        yield* Effect.scoped(Effect.gen(function*() {
          for (let i = 0; i < 20; i++) yield* watch(kv, range)
          assert.strictEqual(yield* watcherCount(), 21)
        }))
        yield* eventually(Effect.map(watcherCount(), (count) => count === 1))
        assert.isAbove(Number(staying.revision), 0)
      }))

    it.effect("a watch whose open was interrupted or timed out is removed from the server, even if its scope stays open", () =>
      Effect.gen(function*() {
        const { kv, proxy, range } = yield* setUp
        yield* eventually(Effect.map(watcherCount(), (count) => count === 0))
        yield* watch(kv, range)
        yield* proxy.delay("100 millis", "toClient")
        for (let i = 0; i < 10; i++) {
          const opening = yield* Effect.forkChild(watch(kv, range))
          yield* Effect.sleep(i * 9)
          yield* Fiber.interrupt(opening)
          const error = yield* Effect.flip(Deadline.within(watch(kv, range), 1 + i * 5))
          assert.include(["DeadlineExceeded", "Unavailable"], error.reason._tag)
        }
        yield* eventually(Effect.map(watcherCount(), (count) => count === 1))
      }))

    it.effect("a watch that was compacted is removed from the server", () =>
      Effect.gen(function*() {
        const { cluster, direct, kv, range } = yield* setUp
        yield* eventually(Effect.map(watcherCount(), (count) => count === 0))
        yield* watch(kv, range)
        const { revision } = yield* direct.put("elsewhere", "")
        yield* cluster.compact(revision)
        const watcher = yield* watch(kv, range, { startRevision: 2n })
        assert.strictEqual((yield* reason(watcher.take))._tag, "Compacted")
        yield* eventually(Effect.map(watcherCount(), (count) => count === 1))
      }))

    it.effect("the last watch and its stream are removed from the server a moment after it closes", () =>
      Effect.gen(function*() {
        const { cluster, kv, range } = yield* setUp
        const streams = Effect.map(
          cluster.metrics(),
          (metrics) => metrics.get("etcd_debugging_mvcc_watch_stream_total")
        )
        yield* eventually(Effect.map(streams, (count) => count === 0))
        yield* Effect.scoped(watch(kv, range))
        assert.strictEqual(yield* streams, 1)
        yield* eventually(Effect.map(streams, (count) => count === 0))
      }))
  })

  describe("closing the client", () => {
    it.effect("closing the client fails pending takes with Closed, and ends the status", () =>
      Effect.gen(function*() {
        const { cluster, range } = yield* setUp
        const scope = yield* Scope.make()
        const kv = yield* Scope.provide(client({ endpoints: cluster.endpoints }), scope)
        const watcher = yield* watch(kv, range)
        const taking = yield* Effect.forkChild(reason(watcher.take))
        const status = yield* Effect.forkChild(Stream.runDrain(watcher.status))
        yield* Effect.yieldNow
        const [elapsed] = yield* timedWithoutStalls(Scope.close(scope, Exit.void))
        assert.isBelow(elapsed, 1000)
        assert.strictEqual((yield* Fiber.join(taking))._tag, "Closed")
        assert.strictEqual((yield* reason(watcher.take))._tag, "Closed")
        yield* Fiber.join(status)
        assert.strictEqual((yield* Effect.flip(watch(kv, range))).reason._tag, "Closed")
      }))
  })

  describe("a key that is not UTF-8", () => {
    it.effect("a key that is not UTF-8 ends the watch with the key's bytes, after all earlier events", () =>
      Effect.gen(function*() {
        const { cluster, direct, prefix, range } = yield* setUp
        const context = yield* services({ endpoints: cluster.endpoints })
        const kv = Context.get(context, Kv.Kv)
        const etcd3 = yield* Context.get(context, EtcdClient.EtcdClient).etcd3
        const watcher = yield* watch(kv, range)
        const other = yield* watch(kv, KeyRange.key(`${prefix}good`))
        const { revision } = yield* direct.put(`${prefix}good`, "1")
        const key = Buffer.concat([Buffer.from(prefix), Buffer.from([0xc3, 0x28])])
        yield* Effect.promise(() => etcd3.kv.put({ key, value: Buffer.from("2") }))
        yield* direct.put(`${prefix}good`, "3")
        assert.strictEqual((yield* batchesUpTo(watcher, revision)).length, 1)
        const failure = yield* reason(watcher.take)
        assert.strictEqual(failure._tag, "InvalidRequest")
        assert.include(failure.message, "c328")
        assert.strictEqual((yield* batchesUpTo(other, revision + 2n)).length, 2)
      }))
  })
})
