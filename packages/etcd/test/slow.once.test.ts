/**
 * Links that are slow: what is being received is no silence.
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

  /** A client that has connected, and whose link has become slow: what is large takes 6 seconds. */
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
      (stats) => assert.strictEqual(stats.opened, opened, "no other connection took the place of one that is busy")
    )
    return { assertKept, direct, kv, watcher }
  })

  it.effect("a large response is received on the connection that it began on", () =>
    Effect.gen(function*() {
      const { assertKept, direct, kv } = yield* slowed
      yield* direct.put("read", large)
      const value = yield* Deadline.within(kv.get("read"), "25 seconds")
      assert.strictEqual(Option.getOrThrow(value).length, large.length)
      yield* assertKept
    }), 60_000)

  it.effect("a large write is carried out", () =>
    Effect.gen(function*() {
      const { direct, kv } = yield* slowed
      // The server says little until it has the whole request, so another connection may be tried.
      const { revision } = yield* Deadline.within(kv.put("written", large), "25 seconds")
      assert.strictEqual(Option.getOrThrow(yield* direct.getEntry("written")).modRevision, revision)
    }), 60_000)

  it.effect("a large event arrives at its watch", () =>
    Effect.gen(function*() {
      const { assertKept, direct, watcher } = yield* slowed
      const { revision } = yield* direct.put("watched", large)
      const [batch] = yield* Effect.timeout(watcher.take, "25 seconds")
      assert.strictEqual(batch.revision, revision)
      yield* assertKept
    }), 60_000)
})

describe("a slow link with TLS", () => {
  it.live("is known to be busy too", () =>
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
