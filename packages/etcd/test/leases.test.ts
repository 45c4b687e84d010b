/**
 * Leases on a real server through a network that loses responses, and on a fake server with scripted responses.
 */
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Lease from "@effect-kv/core/Lease"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it, layer } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { timedWithoutStalls, unlessStalled } from "./support/stalls.ts"

const leases = Effect.flatMap(
  EtcdCluster.EtcdCluster,
  (cluster) => Effect.map(cluster.etcdctl(["lease", "list"]), (text) => text.trim().split("\n").slice(1))
)

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  const connect = Effect.fnUntraced(function*() {
    const { endpoints } = yield* EtcdCluster.EtcdCluster
    const proxy = yield* TcpProxy.make({ target: endpoints[0]! })
    const kv = yield* client({ endpoints: [proxy.endpoint] })
    return { proxy, store: backendOf(kv), kv }
  })

  describe("a lost response", () => {
    it.effect("a grant whose response was lost is retried with the same id, and there is one lease", () =>
      Effect.gen(function*() {
        const { proxy, store, kv } = yield* connect()
        yield* kv.get("connect")
        const before = yield* leases
        yield* proxy.cutAfterForwarding()
        const lease = yield* store.leaseGrant({ ttl: "60 seconds" })
        assert.strictEqual(Duration.toSeconds(lease.ttl), 60)
        const after = yield* leases
        assert.deepStrictEqual(after.filter((id) => !before.includes(id)), [lease.id.toString(16).padStart(16, "0")])
      }))

    it.effect("a grant with the caller's own id whose response was lost is Indeterminate, because the lease may be another client's", () =>
      Effect.gen(function*() {
        const { proxy, store, kv } = yield* connect()
        yield* kv.get("connect")
        yield* proxy.cutAfterForwarding()
        assert.strictEqual((yield* reason(store.leaseGrant({ ttl: "60 seconds", id: 4711n })))._tag, "Indeterminate")
        assert.strictEqual((yield* reason(store.leaseGrant({ ttl: "60 seconds", id: 4711n })))._tag, "LeaseExists")
        yield* store.leaseRevoke(4711n)
      }))

    it.effect("a revoke whose response was lost succeeds, because the lease is gone", () =>
      Effect.gen(function*() {
        const { proxy, store } = yield* connect()
        const { id } = yield* store.leaseGrant({ ttl: "60 seconds" })
        yield* proxy.cutAfterForwarding()
        yield* store.leaseRevoke(id)
        assert.strictEqual((yield* reason(store.leaseRevoke(id)))._tag, "LeaseNotFound")
      }))

    it.effect("a renewal whose response was lost is retried", () =>
      Effect.gen(function*() {
        const { proxy, store } = yield* connect()
        const { id } = yield* store.leaseGrant({ ttl: "60 seconds" })
        yield* proxy.cutAfterForwarding()
        assert.strictEqual((yield* store.leaseKeepAlive(id)).id, id)
        yield* store.leaseRevoke(id)
      }))
  })

  describe("a renewal", () => {
    it.effect("renewing a lease that does not exist fails with LeaseNotFound", () =>
      Effect.gen(function*() {
        const { store } = yield* connect()
        assert.strictEqual((yield* reason(store.leaseKeepAlive(123456n)))._tag, "LeaseNotFound")
        assert.strictEqual((yield* reason(store.leaseTimeToLive(123456n)))._tag, "LeaseNotFound")
        assert.strictEqual((yield* reason(store.leaseRevoke(123456n)))._tag, "LeaseNotFound")
      }))

    it.effect("a renewal on a dead link ends at its deadline and can be interrupted", () =>
      Effect.gen(function*() {
        const { proxy, store } = yield* connect()
        const { id } = yield* store.leaseGrant({ ttl: "60 seconds" })
        yield* proxy.blackhole()
        const fiber = yield* Effect.forkChild(store.leaseKeepAlive(id))
        yield* Effect.sleep("50 millis")
        const [elapsed] = yield* timedWithoutStalls(Fiber.interrupt(fiber))
        assert.isBelow(elapsed, 3000)
        const [waited, failure, whole] = yield* timedWithoutStalls(reason(store.leaseKeepAlive(id)))
        assert.strictEqual(failure._tag, "DeadlineExceeded")
        assert.isTrue(whole >= 5000 && waited < 8000, `${waited} of ${whole} ms`)
        yield* proxy.heal
        yield* store.leaseKeepAlive(id)
      }))

    it.effect("a renewal leaves no stream open on the server", () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const { store } = yield* connect()
        const { id } = yield* store.leaseGrant({ ttl: "60 seconds" })
        const metrics = (outcome: string) =>
          Effect.map(cluster.metrics(), ({ series }) =>
            [...series].filter(([name]) =>
              name.startsWith(`grpc_server_${outcome}_total`) && name.includes("LeaseKeepAlive")
            )
              .reduce((sum, [, count]) =>
                sum + count, 0))
        yield* Effect.forEach(Array.from({ length: 100 }), () =>
          store.leaseKeepAlive(id), { concurrency: 10 })
        const started = yield* metrics("started")
        yield* Effect.repeat(metrics("handled"), { until: (handled) => handled === started })
        const series = (yield* cluster.metrics()).series
        const bad = [...series].filter(([name, count]) =>
          name.startsWith("grpc_server_handled_total") && name.includes("LeaseKeepAlive") &&
          /Internal|Unknown/.test(name) && count > 0
        )
        assert.deepStrictEqual(bad, [])
      }))
  })

  it.effect("lease ids beyond 2^53 are exact, and an id that is not a 64-bit integer is an InvalidRequest", () =>
    Effect.gen(function*() {
      const { store, kv } = yield* connect()
      const id = 2n ** 63n - 2n
      const lease = yield* store.leaseGrant({ ttl: "60 seconds", id })
      assert.strictEqual(lease.id, id)
      yield* kv.put("leased/b", "", { lease: id })
      yield* kv.put("leased/a", "", { lease: id })
      assert.deepStrictEqual((yield* store.leaseTimeToLive(id, { keys: true })).keys, ["leased/a", "leased/b"])
      yield* store.leaseRevoke(id)
      for (const wrong of [0n, 2n ** 63n]) {
        assert.strictEqual((yield* reason(store.leaseKeepAlive(wrong)))._tag, "InvalidRequest")
        assert.strictEqual((yield* reason(store.leaseRevoke(wrong)))._tag, "InvalidRequest")
        assert.strictEqual((yield* reason(store.leaseTimeToLive(wrong)))._tag, "InvalidRequest")
      }
      assert.strictEqual((yield* reason(store.leaseGrant({ ttl: "60 seconds", id: 0n })))._tag, "InvalidRequest")
      assert.strictEqual(
        (yield* reason(store.leaseGrant({ ttl: Lease.maxTtlSeconds * 1000 + 1000 })))._tag,
        "InvalidRequest"
      )
    }))
})

describe("grants and revokes without a final response", () => {
  it.live("a grant or revoke that may have been executed is Indeterminate, however it ends", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const backend = backendOf(yield* client({ endpoints: [fake.endpoint], deadline: "300 millis" }))
      assert.strictEqual((yield* reason(backend.leaseGrant({ ttl: "60 seconds" })))._tag, "Indeterminate")
      assert.strictEqual((yield* reason(backend.leaseRevoke(1n)))._tag, "Indeterminate")
      const timedOut = { code: status.UNAVAILABLE, details: "etcdserver: request timed out" }
      const denied = { code: status.PERMISSION_DENIED, details: "etcdserver: permission denied" }
      for (const second of [timedOut, denied]) {
        const before = fake.received.length
        fake.reply = () => fake.received.length === before + 1 ? timedOut : second
        assert.strictEqual((yield* reason(backend.leaseRevoke(1n)))._tag, "Indeterminate")
        assert.isAbove(fake.received.length, before + 1)
      }
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("a grant is Indeterminate within one deadline if the lease exists but its time to live cannot be read", () =>
    Effect.gen(function*() {
      const replies: Array<FakeEtcd.Reply> = [
        { code: status.UNAVAILABLE, details: "etcdserver: request timed out" },
        { code: status.FAILED_PRECONDITION, details: "etcdserver: lease already exists" }
      ]
      const fake = yield* FakeEtcd.make(() => replies.shift() ?? "hang")
      const backend = backendOf(yield* client({ endpoints: [fake.endpoint], deadline: "500 millis" }))
      const [elapsed, failure] = yield* timedWithoutStalls(reason(backend.leaseGrant({ ttl: "60 seconds" })))
      assert.strictEqual(failure._tag, "Indeterminate")
      assert.deepStrictEqual(fake.received.map(({ method }) => method), ["LeaseGrant", "LeaseGrant", "LeaseTimeToLive"])
      assert.isBelow(elapsed, 1000)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("a grant is Indeterminate if its lease is gone when its time to live is requested", () =>
    Effect.gen(function*() {
      const replies: Array<FakeEtcd.Reply> = [
        { code: status.UNAVAILABLE, details: "etcdserver: request timed out" },
        { code: status.FAILED_PRECONDITION, details: "etcdserver: lease already exists" },
        { response: { header: FakeEtcd.header, ID: "1", TTL: "-1", grantedTTL: "0", keys: [] } }
      ]
      const fake = yield* FakeEtcd.make(() => replies.shift() ?? "hang")
      const backend = backendOf(yield* client({ endpoints: [fake.endpoint] }))
      assert.strictEqual((yield* reason(backend.leaseGrant({ ttl: "60 seconds" })))._tag, "Indeterminate")
    }))
})
