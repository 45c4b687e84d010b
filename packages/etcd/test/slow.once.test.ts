/**
 * Slow links: data that is still arriving must not count as silence.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import { backendOf } from "@effect-kv/core/KvInternals"
import { EtcdCluster, TcpProxy, TestCertificates } from "@effect-kv/test-suite/verification"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { client } from "./support/client.ts"

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })("a slow link", (it) => {
  const large = "x".repeat(600_000)

  /** A connected client whose link then becomes slow: a large message takes 6 seconds. */
  const slowed = Effect.gen(function*() {
    const cluster = yield* EtcdCluster.EtcdCluster
    const direct = yield* client({ endpoints: cluster.endpoints })
    const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
    const kv = yield* client({ endpoints: [proxy.endpoint] })
    yield* kv.get("small")
    const watcher = yield* backendOf(kv).watch({ range: KeyRange.key("watched") })
    const { opened } = yield* proxy.stats
    yield* proxy.throttle(100_000)
    const assertKept = Effect.map(
      proxy.stats,
      (stats) => assert.strictEqual(stats.opened, opened, "no other connection replaced a busy one")
    )
    return { assertKept, direct, kv, watcher }
  })

  it.effect("a large response arrives on the connection on which it began", () =>
    Effect.gen(function*() {
      const { assertKept, direct, kv } = yield* slowed
      yield* direct.put("read", large)
      const value = yield* Deadline.within(kv.get("read"), "25 seconds")
      assert.strictEqual(Option.getOrThrow(value).length, large.length)
      yield* assertKept
    }), 60_000)

  it.effect("a large write is executed", () =>
    Effect.gen(function*() {
      const { direct, kv } = yield* slowed
      // The server sends little until it has the whole request, so the client may try another connection.
      const { revision } = yield* Deadline.within(kv.put("written", large), "25 seconds")
      assert.strictEqual(Option.getOrThrow(yield* direct.getEntry("written")).modRevision, revision)
    }), 60_000)

  it.effect("a large event reaches its watch", () =>
    Effect.gen(function*() {
      const { assertKept, direct, watcher } = yield* slowed
      const { revision } = yield* direct.put("watched", large)
      const [batch] = yield* Effect.timeout(watcher.take, "25 seconds")
      assert.strictEqual(batch.revision, revision)
      yield* assertKept
    }), 60_000)
})

describe("a slow link with TLS", () => {
  it.live("a slow connection with TLS counts as busy too", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const tls = { ca: authority.ca.cert }
      const cluster = yield* EtcdCluster.make({ tls: { server: yield* authority.server(), ca: authority.ca } })
      const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
      const direct = yield* client({ endpoints: cluster.endpoints, tls })
      const kv = yield* client({ endpoints: [proxy.endpoint], tls })
      const large = "x".repeat(300_000)
      yield* direct.put("read", large)
      yield* kv.get("small")
      const { opened } = yield* proxy.stats
      yield* proxy.throttle(100_000)
      const value = yield* Deadline.within(kv.get("read"), "25 seconds")
      assert.strictEqual(Option.getOrThrow(value).length, large.length)
      assert.strictEqual((yield* proxy.stats).opened, opened)
    }), 60_000)
})
