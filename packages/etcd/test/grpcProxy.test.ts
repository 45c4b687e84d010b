/**
 * A client behind `etcd grpc-proxy`, which chooses the ids of watches, shares watches, and responds to creates
 * in any order.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { backendOf } from "@effect-kv/core/KvInternals"
import { EtcdCluster, GrpcProxy } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { client } from "./support/client.ts"

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  const setUp = Effect.gen(function*() {
    const cluster = yield* EtcdCluster.EtcdCluster
    const proxy = yield* GrpcProxy.make({ endpoints: cluster.endpoints })
    return { cluster, proxy, kv: yield* client({ endpoints: [proxy.endpoint] }) }
  })

  it.effect("Behind etcd grpc-proxy, watches of the same and of other keys that open together each get their own events", () =>
    Effect.gen(function*() {
      const { cluster, kv, proxy } = yield* setUp
      const keys = Array.from({ length: 60 }, (_, i) => `many/${i % 20}`)
      const open = (key: string) => backendOf(kv).watch({ range: KeyRange.key(key) })
      // The second half joins watches that the proxy has already, which it confirms out of turn.
      const early = yield* Effect.forEach(keys.slice(0, 30), open, { concurrency: "unbounded" })
      const late = yield* Effect.forEach(keys.slice(30), open, { concurrency: "unbounded" })
      const direct = yield* client({ endpoints: cluster.endpoints })
      for (let i = 0; i < 20; i++) yield* direct.put(`many/${i}`, `${i}`)
      for (const [i, watcher] of [...early, ...late].entries()) {
        const [batch] = yield* watcher.take
        assert.strictEqual(batch.events.length, 1)
        assert.strictEqual(batch.events[0]!.key, keys[i])
      }
      assert.isTrue(yield* proxy.isRunning)
    }))

  it.effect("Behind etcd grpc-proxy, a watch from a past revision gets every event once, beside one that is live", () =>
    Effect.gen(function*() {
      const { kv } = yield* setUp
      const range = KeyRange.key("past")
      const live = yield* backendOf(kv).watch({ range })
      const written: Array<bigint> = []
      for (let i = 0; i < 20; i++) written.push((yield* kv.put("past", `${i}`)).revision)
      for (const start of [0, 10, 19]) {
        const past = yield* backendOf(kv).watch({ range, startRevision: written[start]! })
        assert.deepStrictEqual(yield* revisions(past, 20 - start), written.slice(start))
      }
      assert.deepStrictEqual(yield* revisions(live, 20), written)
    }))

  it.effect("Behind etcd grpc-proxy, a closed watch leaves no watch on the server", () =>
    Effect.gen(function*() {
      const { cluster, kv } = yield* setUp
      const watchers = Effect.map(cluster.metrics(), (metrics) => metrics.get("etcd_debugging_mvcc_watcher_total") ?? 0)
      const stays = yield* backendOf(kv).watch({ range: KeyRange.key("stays") })
      const before = yield* watchers
      const scope = yield* Scope.make()
      yield* Effect.forEach(
        Array.from({ length: 10 }, (_, i) => `closed/${i}`),
        (key) => Scope.provide(backendOf(kv).watch({ range: KeyRange.key(key) }), scope),
        { concurrency: "unbounded" }
      )
      yield* Effect.repeat(watchers, { until: (count) => count === before + 10 })
      yield* Scope.close(scope, Exit.void)
      yield* Effect.repeat(watchers, { until: (count) => count === before })
      yield* kv.put("stays", "1")
      assert.strictEqual((yield* stays.take)[0].events[0]!.key, "stays")
    }))

  it.effect("Behind etcd grpc-proxy, watches continue without a gap when the proxy is replaced by another", () =>
    Effect.gen(function*() {
      const { cluster, proxy } = yield* setUp
      const another = yield* GrpcProxy.make({ endpoints: cluster.endpoints })
      // The third endpoint is a member itself, which uses the ids that are requested.
      const kv = yield* client({ endpoints: [proxy.endpoint, another.endpoint, cluster.endpoints[0]!] })
      const ranges = ["gap/a", "gap/b", "gap/c"].map(KeyRange.key)
      const watchers = yield* Effect.forEach(ranges, (range) => backendOf(kv).watch({ range }))
      const direct = yield* client({ endpoints: cluster.endpoints })
      const written: Array<bigint> = []
      const write = Effect.forEach(ranges, (range) => direct.put(range._tag === "Key" ? range.key : "", "1"))
      for (const kill of [proxy.kill, another.kill]) {
        written.push(...(yield* write).map(({ revision }) => revision))
        yield* kill
        written.push(...(yield* write).map(({ revision }) => revision))
      }
      for (const [i, watcher] of watchers.entries()) {
        assert.deepStrictEqual(yield* revisions(watcher, 4), written.filter((_, at) => at % 3 === i))
      }
      assert.deepStrictEqual(yield* kv.get("gap/a"), Option.some("1"))
    }))

  const revisions = Effect.fnUntraced(function*(
    watcher: Effect.Success<ReturnType<ReturnType<typeof backendOf>["watch"]>>,
    count: number
  ) {
    const all: Array<bigint> = []
    while (all.length < count) all.push(...(yield* watcher.take).map(({ revision }) => revision))
    return all
  })
})
