/**
 * What an operator sees of a client's requests: the metrics and spans of retries, failovers, tokens and batches.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as Kv from "@effect-kv/core/Kv"
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import type * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { total } from "./support/metrics.ts"
import { eventually } from "./support/watching.ts"

const secrets = { value: "a-value-that-is-a-secret", password: "a-password", token: "a-token" }

const accepted: FakeEtcd.Reply = { response: { header: FakeEtcd.header } }
const noLeader: FakeEtcd.Reply = { code: grpc.status.UNAVAILABLE, details: "etcdserver: no leader" }
const invalidToken: FakeEtcd.Reply = {
  code: grpc.status.UNAUTHENTICATED,
  details: "etcdserver: invalid auth token"
}

/** Runs a program with a client, a registry and a tracer of its own, and returns the spans. */
const observed = <A, E>(options: EtcdLayer.Options, program: (kv: Kv.Kv) => Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    const kv = yield* client(options)
    yield* Effect.withTracer(program(kv), tracer)
    for (const span of spans) assert.strictEqual(span.status._tag, "Ended", span.name)
    const everything = inspect([spans, yield* Metric.snapshot], { depth: 12 })
    for (const secret of Object.values(secrets)) assert.notInclude(everything, secret)
    return spans
  })

const isolated = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))

const children = (spans: ReadonlyArray<Tracer.NativeSpan>, of: Tracer.NativeSpan) =>
  spans.filter(({ parent }) => Option.exists(parent, ({ spanId }) => spanId === of.spanId))

const find = (spans: ReadonlyArray<Tracer.NativeSpan>, name: string): Tracer.NativeSpan => {
  const span = spans.find((span) => span.name === name)
  assert.isDefined(span, `no span ${name}`)
  return span!
}

const portOf = ({ endpoint }: FakeEtcd.FakeEtcd): number => Number(new URL(endpoint).port)

describe("what an operator sees of requests", () => {
  it.live("a retry is a second attempt in the call's span, and counts as a failure and a retry of its endpoint", () =>
    Effect.gen(function*() {
      let requests = 0
      const fake = yield* FakeEtcd.make(() => ++requests === 1 ? noLeader : accepted)
      const spans = yield* observed(
        { endpoints: [fake.endpoint], prefix: "app/" },
        (kv) => Kv.prefixed(kv, "ada/").put("a", secrets.value)
      )
      const put = find(spans, "put")
      const attributes = Object.fromEntries(put.attributes)
      assert.deepStrictEqual(attributes, {
        "db.system.name": "etcd",
        "db.namespace": "app/ada/",
        "db.operation.name": "put",
        "server.address": "127.0.0.1",
        "server.port": portOf(fake)
      })
      const attempts = children(spans, put)
      assert.deepStrictEqual(attempts.map(({ name }) => name), ["etcdserverpb.KV/Put", "etcdserverpb.KV/Put"])
      assert.deepStrictEqual(
        attempts.map(({ attributes }) => attributes.get("rpc.response.status_code")),
        [`${grpc.status.UNAVAILABLE}`, undefined]
      )
      assert.strictEqual(attempts[1]!.attributes.get("server.port"), portOf(fake))
      // etcd continues the trace of the attempt.
      assert.deepStrictEqual(
        fake.received.map(({ metadata }) => metadata.get("traceparent")[0]),
        attempts.map(({ spanId, traceId }) => `00-${traceId}-${spanId}-01`)
      )
      const labels = { "server.port": `${portOf(fake)}`, "error.type": "Unavailable" }
      assert.strictEqual(yield* total(KvMetrics.requestFailures, labels), 1)
      assert.strictEqual(yield* total(KvMetrics.retries, labels), 1)
      assert.strictEqual(yield* total(KvMetrics.operationDuration, { "db.operation.name": "put" }), 1)
      assert.strictEqual(yield* total(KvMetrics.operationDuration, { "db.namespace": "app/" }), 1)
    }).pipe(isolated))

  it.live("the last failure of a call that its deadline ends is no retry", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => accepted)
      yield* observed({ endpoints: [fake.endpoint] }, (kv) =>
        Effect.gen(function*() {
          yield* kv.get("a")
          fake.reply = () => noLeader
          yield* reason(Deadline.within(kv.put("a", secrets.value), "200 millis"))
        }))
      const requests = fake.received.length - 1
      assert.strictEqual(yield* total(KvMetrics.requestFailures), requests)
      assert.strictEqual(yield* total(KvMetrics.retries), requests - 1)
    }).pipe(isolated))

  it.live("a failover shows both members, and the endpoint that failed is down", () =>
    Effect.gen(function*() {
      let requests = 0
      const reply = () => ++requests === 1 ? noLeader : accepted
      const fakes = [yield* FakeEtcd.make(reply), yield* FakeEtcd.make(reply)]
      const endpoints = fakes.map(({ endpoint }) => endpoint)
      const spans = yield* observed({ endpoints }, (kv) => kv.put("a", secrets.value))
      const put = find(spans, "put")
      const ports = children(spans, put).map(({ attributes }) => attributes.get("server.port"))
      assert.sameMembers(ports, fakes.map(portOf))
      assert.strictEqual(put.attributes.get("server.port"), ports[1])
      const up = (port: unknown) => total(KvMetrics.endpointUp, { "server.port": `${port}` })
      assert.deepStrictEqual([yield* up(ports[0]), yield* up(ports[1])], [0, 1])
    }).pipe(isolated))

  it.live("an endpoint that is reachable again is up, even if no call uses it any more", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => accepted)
      const proxies = [
        yield* TcpProxy.make({ target: fake.endpoint }),
        yield* TcpProxy.make({ target: fake.endpoint })
      ] as const
      const down = () => Effect.map(total(KvMetrics.endpointUp), (up) => proxies.length - up)
      const kv = yield* client({ endpoints: proxies.map(({ endpoint }) => endpoint) })
      yield* kv.get("a")
      const stats = yield* Effect.forEach(proxies, ({ stats }) => stats)
      const used = stats[0]!.live > 0 ? proxies[0] : proxies[1]
      assert.strictEqual(yield* down(), 0)
      yield* used.down
      yield* kv.get("a")
      assert.strictEqual(yield* down(), 1)
      yield* used.up
      yield* eventually(Effect.map(down(), (count) => count === 0))
    }).pipe(isolated))

  it.live("the renewal of a token is a part of the call that waits for it, and is counted", () =>
    Effect.gen(function*() {
      let issued = 0
      const fake = yield* FakeEtcd.make(({ metadata, method }) => {
        if (method === "Authenticate") {
          return { response: { header: FakeEtcd.header, token: `${secrets.token}-${++issued}` } }
        }
        return metadata.get("token")[0] === `${secrets.token}-1` ? invalidToken : accepted
      })
      const auth = { username: "app", password: Redacted.make(secrets.password) }
      const spans = yield* observed({ endpoints: [fake.endpoint], auth }, (kv) => kv.put("a", secrets.value))
      assert.deepStrictEqual(
        children(spans, find(spans, "put")).map(({ name }) => name),
        ["token", "etcdserverpb.KV/Put", "token", "etcdserverpb.KV/Put"]
      )
      assert.strictEqual(yield* total(KvMetrics.tokenRenewals, { outcome: "renewed" }), 2)
      assert.strictEqual(yield* total(KvMetrics.retries, { "error.type": "Unauthenticated" }), 1)
    }).pipe(isolated))

  it.live("a password that is rejected is a failed token, and no span or metric contains it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({
        code: grpc.status.INVALID_ARGUMENT,
        details: "etcdserver: authentication failed, invalid user ID or password"
      }))
      const auth = { username: "app", password: Redacted.make(secrets.password) }
      const spans = yield* observed({ endpoints: [fake.endpoint], auth }, (kv) => reason(kv.put("a", secrets.value)))
      assert.strictEqual(find(spans, "put").attributes.get("error.type"), "Unauthenticated")
      assert.deepStrictEqual(children(spans, find(spans, "put")).map(({ name }) => name), ["token"])
      assert.strictEqual(yield* total(KvMetrics.tokenRenewals, { outcome: "failed" }), 1)
      assert.strictEqual(yield* total(KvMetrics.tokenRenewals, { outcome: "renewed" }), 0)
      assert.strictEqual(yield* total(KvMetrics.operationDuration, { "error.type": "Unauthenticated" }), 1)
    }).pipe(isolated))

  it.live("a write without a response is a failure with an unknown outcome", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const spans = yield* observed(
        { endpoints: [fake.endpoint], deadline: "200 millis" },
        (kv) => reason(kv.put("a", secrets.value))
      )
      const put = find(spans, "put")
      assert.strictEqual(put.attributes.get("error.type"), "Indeterminate")
      assert.strictEqual(put.attributes.get("effect_kv.outcome"), "Unknown")
      assert.strictEqual(put.attributes.get("db.response.status_code"), `${grpc.status.DEADLINE_EXCEEDED}`)
      assert.strictEqual(yield* total(KvMetrics.requestFailures, { "error.type": "DeadlineExceeded" }), 1)
      assert.strictEqual(yield* total(KvMetrics.operationDuration, { "error.type": "Indeterminate" }), 1)
    }).pipe(isolated))

  it.live("a batch has the attempt as its child, and names the member on the spans of its callers", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(({ method, request }) => {
        if (method !== "Txn") return accepted
        const responses = (request["success"] as ReadonlyArray<unknown>).map(() => ({ response_put: {} }))
        return { response: { header: FakeEtcd.header, succeeded: true, responses } }
      })
      const spans = yield* observed(
        { endpoints: [fake.endpoint], batching: { maxInFlight: 1 } },
        (kv) => Effect.forEach(["alone", "a", "b"], (key) => kv.put(key, secrets.value), { concurrency: "unbounded" })
      )
      const batch = find(spans, "BATCH put")
      assert.isTrue(Option.isNone(batch.parent))
      assert.deepStrictEqual(children(spans, batch).map(({ name }) => name), ["etcdserverpb.KV/Txn"])
      const callers = spans.filter(({ name }) => name === "put")
      assert.deepStrictEqual(callers.map(({ attributes }) => attributes.get("server.port")), [
        portOf(fake),
        portOf(fake),
        portOf(fake)
      ])
      assert.deepStrictEqual(callers.map(({ links }) => links.length), [0, 1, 1])
      assert.strictEqual(yield* total(KvMetrics.batchSize, { kind: "put" }), 2)
    }).pipe(isolated))

  it.live("nothing is traced or measured if that is switched off", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => accepted)
      const spans = yield* observed({ endpoints: [fake.endpoint], tracing: false, metrics: false }, (kv) =>
        Effect.forEach(["alone", "a"], (key) => kv.put(key, secrets.value), { concurrency: "unbounded" }))
      assert.deepStrictEqual(spans, [])
      assert.deepStrictEqual(
        fake.received.flatMap(({ metadata }) =>
          metadata.get("traceparent")
        ),
        []
      )
      assert.deepStrictEqual(yield* Metric.snapshot, [])
    }).pipe(isolated))

  it.live("the endpoints and gauges of a client are gone when it has closed", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => accepted)
      yield* Effect.scoped(Effect.flatMap(client({ endpoints: [fake.endpoint] }), (kv) => kv.put("a", secrets.value)))
      const left = (yield* Metric.snapshot).filter(({ type }) => type === "Gauge")
      assert.deepStrictEqual(left.map(({ id }) => id), [])
    }).pipe(isolated))
})
