/**
 * What this package takes for granted of the pinned grpc-js: if one of these fails after an update, `call.ts` has to be
 * thought through again.
 */
import { SendControl } from "@effect-kv/core/SendControl"
import { TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { openLine, type ServiceLine } from "../src/internal/rpc/endpoints.ts"
import { connectError, type Failure } from "../src/internal/rpc/errors.ts"
import { Active, exchange, mayHaveBeenSent, newAttempt, open, unary } from "../src/internal/rpc/grpcCall.ts"
import * as settings from "../src/internal/settings.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"

const endpointTo = (address: string): Effect.Effect<ServiceLine, unknown, Scope.Scope> =>
  Effect.flatMap(settings.make({ endpoints: [address] }), (settings) =>
    Effect.acquireRelease(
      Effect.sync(() => openLine(address, settings, { active: new Active(), now: () => 0 })),
      (line) => Effect.sync(() => line.close())
    ))

const put = (endpoint: ServiceLine, attempt = newAttempt(), sendControl?: SendControl) =>
  unary(
    endpoint.kv,
    endpoint.kv.put,
    { key: Buffer.from("a"), value: Buffer.from("1") },
    {
      token: undefined,
      hasLeader: true,
      timeout: 5000,
      active: new Active(),
      traffic: endpoint.traffic,
      isRepeatable: false,
      sendControl
    },
    attempt
  )

const failure = (endpoint: ServiceLine): Effect.Effect<Failure, unknown> => Effect.flip(put(endpoint))

describe("whether a request left", () => {
  it.live("not, where the connection is refused", () =>
    Effect.gen(function*() {
      const endpoint = yield* endpointTo("http://127.0.0.1:1")
      for (let i = 0; i < 3; i++) {
        const { code, details, left } = yield* failure(endpoint)
        assert.isFalse(left)
        assert.strictEqual(code, grpc.status.UNAVAILABLE)
        assert.match(details, /^No connection established\. Last error: .*ECONNREFUSED.*/)
        assert.strictEqual(connectError(details), "connect ECONNREFUSED 127.0.0.1:1")
      }
    }))

  it.live("not, where the connection was replaced since it was chosen", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const endpoint = yield* endpointTo(fake.endpoint)
      endpoint.destroy()
      const options = {
        token: undefined,
        hasLeader: true,
        timeout: 5000,
        active: new Active(),
        traffic: endpoint.traffic,
        isRepeatable: true
      }
      const renew = endpoint.lease.leaseKeepAlive
      const failures = yield* Effect.forEach([
        put(endpoint),
        exchange(endpoint.lease, renew, { ID: "1" }, options, newAttempt()),
        open(endpoint.lease, renew, options, () => Effect.void)
      ], (call: Effect.Effect<unknown, Failure>) => Effect.flip(call))
      for (const { code, left } of failures) {
        assert.isFalse(left)
        assert.strictEqual(code, grpc.status.UNAVAILABLE)
      }
      assert.isTrue(endpoint.traffic.isEmpty)
    }))

  it.live("not, where the name does not resolve", () =>
    Effect.gen(function*() {
      const endpoint = yield* endpointTo("http://name.invalid:2379")
      const { left, details } = yield* failure(endpoint)
      assert.isFalse(left)
      assert.include(details, "name.invalid")
    }))

  it.live("not, where it was called off in the meantime", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ answer: { header: FakeEtcd.header } }))
      const endpoint = yield* endpointTo(fake.endpoint)
      yield* put(endpoint, newAttempt(), new SendControl(() => false))
      const attempt = newAttempt()
      assert.isFalse((yield* Effect.flip(put(endpoint, attempt, new SendControl(() => true)))).left)
      assert.isFalse(attempt.left)
      assert.strictEqual(fake.received.length, 1)
    }))

  it.live("perhaps, where the server answered, whatever it says", () =>
    Effect.gen(function*() {
      const details = "No connection established. Last error: a lie"
      const fake = yield* FakeEtcd.make(() => ({ code: grpc.status.UNAVAILABLE, details }))
      const endpoint = yield* endpointTo(fake.endpoint)
      assert.deepStrictEqual(yield* failure(endpoint), { code: grpc.status.UNAVAILABLE, details, left: true })
    }))

  it.live("perhaps, where the connection broke, before or after the request reached the server", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ answer: { header: FakeEtcd.header } }))
      const proxy = yield* TcpProxy.make({ target: fake.endpoint })
      const endpoint = yield* endpointTo(proxy.endpoint)
      yield* put(endpoint)
      yield* proxy.cutBeforeForwarding()
      assert.isTrue((yield* failure(endpoint)).left)
      yield* put(endpoint)
      yield* proxy.cutAfterForwarding()
      assert.isTrue((yield* failure(endpoint)).left)
    }))

  it.live("perhaps, where a connection with many requests breaks, and never less than reached the server", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ answer: { header: FakeEtcd.header } }))
      const proxy = yield* TcpProxy.make({ target: fake.endpoint })
      const endpoint = yield* endpointTo(proxy.endpoint)
      let reached = 0
      let failed = 0
      for (let round = 0; round < 20; round++) {
        yield* put(endpoint)
        const before = fake.received.length
        const cutting = yield* Effect.forkChild(Effect.andThen(fake.awaitReceived(before + round), proxy.cut))
        const results = yield* Effect.all(
          Array.from({ length: 20 }, () => Effect.result(put(endpoint))),
          { concurrency: "unbounded" }
        )
        yield* Fiber.join(cutting)
        const mayHave = results.filter((result) => result._tag === "Success" || result.failure.left).length
        assert.isAtMost(fake.received.length - before, mayHave)
        reached += fake.received.length - before
        failed += results.filter((result) => result._tag === "Failure").length
      }
      assert.isAbove(reached, 0)
      assert.isAbove(failed, 0)
    }))

  it.live("perhaps, for a call that grpc-js's own deadline ended in the turn in which it was made", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ answer: { header: FakeEtcd.header } }))
      const endpoint = yield* endpointTo(fake.endpoint)
      yield* put(endpoint)
      const left = yield* Effect.callback<boolean>((resume) => {
        const options = { deadline: Date.now() - 1 }
        const call = endpoint.kv.put({ key: Buffer.from("b") }, new grpc.Metadata(), options, (error) => {
          resume(Effect.succeed(mayHaveBeenSent(call, error?.code)))
        })
      })
      assert.isTrue(left)
    }))
})

describe("a call that is cancelled in the turn in which it was made", () => {
  it.live("is sent all the same by grpc-js, and cancelled by us", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ answer: { header: FakeEtcd.header } }))
      const endpoint = yield* endpointTo(fake.endpoint)
      yield* put(endpoint)
      fake.reply = () => "hang"
      // grpc-js alone: cancelled once, it reaches the server and stays there.
      const call = endpoint.kv.put({ key: Buffer.from("b") }, new grpc.Metadata(), {}, () => {})
      call.cancel()
      yield* fake.awaitReceived(2)
      assert.strictEqual(fake.cancelled(), 0)
      call.cancel()
      yield* fake.awaitCancelled(1)
    }))
})

describe("secrets", () => {
  it.effect("are not shown by an endpoint's clients", () =>
    Effect.gen(function*() {
      const made = yield* settings.make({
        endpoints: ["http://127.0.0.1:1"],
        auth: { username: "root", password: Redacted.make("hunter2") }
      })
      assert.notInclude(JSON.stringify(made), "hunter2")
    }))
})
