/**
 * Closing a client: calls in flight end, and nothing keeps the process alive.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { timedWithoutStalls } from "./support/stalls.ts"

/** Runs a program in its own process. Returns its output, and how long it ran after it printed "closed". */
const run = (
  program: string,
  endpoint: string
): Effect.Effect<{ readonly output: string; readonly lingered: number }> =>
  Effect.callback((resume) => {
    const file = fileURLToPath(new URL(`./programs/${program}`, import.meta.url))
    let closed = Number.NaN
    const child = execFile(process.execPath, [file, endpoint], { timeout: 25_000 }, (error, output, errors) => {
      const lingered = performance.now() - closed
      resume(
        error === null ? Effect.succeed({ output, lingered }) : Effect.die(new Error(`${error.message}\n${errors}`))
      )
    })
    child.stdout!.on("data", (chunk: Buffer) => {
      if (chunk.includes("closed")) closed = performance.now()
    })
    return Effect.sync(() => child.kill("SIGKILL"))
  })

describe("closing a client", () => {
  it.live("closing a client fails reads with Closed and writes that may have been sent with Indeterminate, and nothing hangs", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const scope = yield* Scope.make()
      const kv = yield* Scope.provide(client({ endpoints: [fake.endpoint], deadline: "1 hour" }), scope)
      const reading = yield* Effect.forkChild(reason(kv.get("a")))
      const writing = yield* Effect.forkChild(reason(kv.put("a", "1")))
      const granting = yield* Effect.forkChild(reason(backendOf(kv).leaseGrant({ ttl: "5 seconds" })))
      const renewing = yield* Effect.forkChild(reason(backendOf(kv).leaseKeepAlive(1n)))
      yield* fake.awaitReceived(3)
      const [elapsed] = yield* timedWithoutStalls(Scope.close(scope, Exit.void))
      assert.isBelow(elapsed, 3000)
      assert.strictEqual((yield* Fiber.join(reading))._tag, "Closed")
      assert.strictEqual((yield* Fiber.join(writing))._tag, "Indeterminate")
      assert.strictEqual((yield* Fiber.join(granting))._tag, "Indeterminate")
      assert.strictEqual((yield* Fiber.join(renewing))._tag, "Closed")
      yield* fake.awaitCancelled(3)
      for (
        const call of [kv.get("a"), kv.put("a", "1"), backendOf(kv).leaseRevoke(1n), backendOf(kv).leaseKeepAlive(1n)]
      ) {
        const failure = yield* reason<unknown>(call as Effect.Effect<unknown, KvError>)
        assert.strictEqual(failure._tag, "Closed")
        assert.strictEqual(failure.outcome, "NotApplied")
      }
    }))

  it.live("closing a client ends calls that wait for a connection, a token or the next attempt", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ code: 14, details: "etcdserver: leader changed" }))
      const hanging = yield* FakeEtcd.make()
      const scope = yield* Scope.make()
      const auth = { username: "a", password: Redacted.make("b") }
      const clients = yield* Effect.all([
        client({ endpoints: ["http://127.0.0.1:1"], deadline: "1 hour" }),
        client({ endpoints: [fake.endpoint], deadline: "1 hour" }),
        client({ endpoints: [hanging.endpoint], deadline: "1 hour", auth })
      ]).pipe(Effect.provideService(Scope.Scope, scope))
      const fibers = yield* Effect.forEach(clients, (kv) => Effect.forkChild(reason(kv.get("a"))))
      yield* fake.awaitReceived(3)
      yield* hanging.awaitReceived(1)
      yield* Scope.close(scope, Exit.void)
      for (const fiber of fibers) assert.strictEqual((yield* Fiber.join(fiber))._tag, "Closed")
    }))

  it.live("a layer without a reachable server is built and closed immediately", () =>
    Effect.gen(function*() {
      const [elapsed] = yield* timedWithoutStalls(
        Effect.void.pipe(Effect.provide(EtcdLayer.layer({ endpoints: ["http://127.0.0.1:1"] })))
      )
      assert.isBelow(elapsed, 3000)
    }))
})

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  it.effect("a closed client does not keep the process alive, even if it had calls in flight", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const { lingered, output } = yield* run("closes.ts", endpoints[0]!)
      assert.include(output, "closed")
      assert.isBelow(lingered, 3000)
    }))

  it.effect("a closed client does not keep the process alive if no server was reachable", () =>
    Effect.gen(function*() {
      const { lingered } = yield* run("closes-unreachable.ts", "http://127.0.0.1:1")
      assert.isBelow(lingered, 3000)
    }))

  it.effect("the layer loads none of etcd3's packages before EtcdClient is used", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const { output } = yield* run("imports.ts", endpoints[0]!)
      assert.deepStrictEqual(JSON.parse(output.split("\n")[0]!), {
        before: [],
        after: ["etcd3", "@grpc/grpc-js", "@grpc/proto-loader", "protobufjs"]
      })
    }))

  it.effect("a closed client leaves no connection on the server", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const proxy = yield* TcpProxy.make({ target: endpoints[0]! })
      yield* Effect.scoped(Effect.gen(function*() {
        const kv = yield* client({ endpoints: [proxy.endpoint] })
        yield* kv.put("a", "1")
        const { id } = yield* backendOf(kv).leaseGrant({ ttl: "5 seconds" })
        yield* backendOf(kv).leaseKeepAlive(id)
        yield* backendOf(kv).watch({ range: KeyRange.all })
        assert.isAbove((yield* proxy.stats).live, 0)
      }))
      yield* Effect.repeat(proxy.stats, { until: ({ live }) => live === 0 })
    }))

  it.effect("a closed client does not connect to an endpoint that comes back", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const proxy = yield* TcpProxy.make({ target: endpoints[0]! })
      yield* proxy.down
      const scope = yield* Scope.make()
      const clients = Effect.replicateEffect(client({ endpoints: [proxy.endpoint], deadline: "300 millis" }), 5)
      const closing = yield* Scope.provide(clients, scope)
      const staying = yield* client({ endpoints: [proxy.endpoint], deadline: "300 millis" })
      for (const kv of [...closing, staying]) assert.strictEqual((yield* reason(kv.get("a")))._tag, "Unavailable")
      yield* Scope.close(scope, Exit.void)
      yield* proxy.up
      // All clients would have reconnected by about the time this one has.
      yield* Effect.retry(staying.get("a"), { times: 20 })
      yield* Effect.sleep("1 second")
      assert.strictEqual((yield* proxy.stats).opened, 1)
    }))

  it.effect("closing a client does not affect another client in the process", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const kv = yield* client({ endpoints })
      yield* kv.put("a", "1")
      yield* Effect.provide(Kv.put("a", "2"), EtcdLayer.layer({ endpoints }))
      const busy = yield* Effect.forkChild(Effect.forEach(Array.from({ length: 200 }), () => kv.get("a")))
      for (let i = 0; i < 5; i++) yield* Effect.provide(Kv.get("a"), EtcdLayer.layer({ endpoints }))
      yield* Fiber.join(busy)
    }))
})
