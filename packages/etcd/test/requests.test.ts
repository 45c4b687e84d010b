/**
 * The life of requests on a fake server with scripted responses: deadlines, interruption, and what is retried.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import { KvError } from "@effect-kv/core/KvError"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Peer from "./grpc/support/Peer.ts"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { timedWithoutStalls, unlessStalled } from "./support/stalls.ts"

const putResponse = { response: { header: FakeEtcd.header } }
const rangeResponse = { response: { header: FakeEtcd.header, kvs: [], more: false, count: "0" } }

/** Accepts connections and never responds on them, so gRPC keeps connecting indefinitely. */
const silentEndpoint = Effect.tap(TcpProxy.make({ target: 1 }), (proxy) => proxy.blackhole())

const methods = (fake: FakeEtcd.FakeEtcd): ReadonlyArray<string> => fake.received.map(({ method }) => method)

describe("deadlines", () => {
  it.live("a read without a response fails with DeadlineExceeded at its deadline", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "300 millis" })
      const [elapsed, failure, whole] = yield* timedWithoutStalls(reason(kv.get("a")))
      assert.strictEqual(failure._tag, "DeadlineExceeded")
      assert.include(failure.message, fake.endpoint)
      assert.isTrue(whole >= 300 && elapsed < 3000, `${elapsed} of ${whole} ms`)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("the layer's deadline also bounds opening a watch", () =>
    Effect.gen(function*() {
      const silent = yield* silentEndpoint
      const kv = yield* client({ endpoints: [silent.endpoint], deadline: "300 millis" })
      const [elapsed, failure, whole] = yield* timedWithoutStalls(
        reason(Effect.scoped(kv.subscribe(KeyRange.key("a"))))
      )
      assert.strictEqual(failure._tag, "Unavailable")
      assert.isTrue(whole >= 300 && elapsed < 3000, `${elapsed} of ${whole} ms`)
    }))

  it.live("a write without a response is Indeterminate at its deadline, and is sent once", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "300 millis" })
      const writes: ReadonlyArray<Effect.Effect<unknown, KvError>> = [
        kv.put("a", "1"),
        kv.delete("a"),
        kv.txn({ then: [Op.put("a", "1")] })
      ]
      for (const write of writes) {
        assert.strictEqual((yield* reason(write))._tag, "Indeterminate")
      }
      assert.deepStrictEqual(methods(fake), ["Put", "DeleteRange", "Txn"])
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("a write whose response has headers above the limit is Indeterminate, names the limit, and is sent once", () =>
    Effect.gen(function*() {
      let received = 0
      const peer = yield* Peer.make({
        onRequest: (connection, stream) => {
          received += 1
          connection.largeHeaders(stream, { ...Peer.okHeaders, "x-large": "y".repeat(70_000) })
        }
      })
      const kv = yield* client({ endpoints: [`http://127.0.0.1:${peer.port}`] })
      const failure = yield* reason(kv.put("a", "1"))
      assert.strictEqual(failure._tag, "Indeterminate")
      assert.match(failure.message, /headers above the limit of 64 KiB/)
      assert.strictEqual(received, 1)
    }))

  it.live("a call's own deadline replaces the layer's", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "1 hour" })
      const [elapsed] = yield* timedWithoutStalls(reason(Deadline.within(kv.get("a"), "200 millis")))
      assert.isBelow(elapsed, 1000)
    }))

  it.live("the deadline covers all attempts together", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ code: status.UNAVAILABLE, details: "etcdserver: leader changed" }))
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "1 second" })
      const [elapsed, failure, whole] = yield* timedWithoutStalls(reason(kv.get("a")))
      // The last attempt was rejected or is in flight.
      assert.include(["Unavailable", "DeadlineExceeded"], failure._tag)
      assert.include(failure.message, "leader changed")
      assert.isTrue(whole >= 1000 && elapsed < 1700, `${elapsed} of ${whole} ms`)
      assert.isAbove(fake.received.length, 3)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("each request sends its remaining time to the server", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => rangeResponse)
      const kv = yield* client({ endpoints: [fake.endpoint] })
      yield* kv.get("a")
      assert.isTrue(fake.received[0]!.timeout > 0 && fake.received[0]!.timeout < 7000)
    }))
})

describe("interruption", () => {
  it.live("interrupting a call cancels its request on the server at once", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "1 hour" })
      const fiber = yield* Effect.forkChild(kv.put("a", "1"))
      yield* fake.awaitReceived(1)
      yield* Fiber.interrupt(fiber)
      yield* fake.awaitCancelled(1)
    }))

  it.live("interrupting a call that was just made leaves no request behind", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(({ request }) => String(request["key"]) === "a" ? "hang" : rangeResponse)
      const kv = yield* client({ endpoints: [fake.endpoint] })
      yield* kv.get("first")
      // Interrupts after 0, 1, 2, ... microtasks, to hit each stage in which a call starts.
      for (let ticks = 0; ticks < 40; ticks++) {
        const fiber = Effect.runFork(kv.get("a"))
        for (let i = 0; i < ticks; i++) yield* Effect.promise(() => Promise.resolve())
        yield* Fiber.interrupt(fiber)
      }
      // On the same connection, this call follows all of them.
      yield* kv.get("last")
      assert.isAbove(fake.received.length, 20)
      yield* fake.awaitCancelled(fake.received.length - 2)
    }))

  it.live("interrupting a call that waits for a connection ends it", () =>
    Effect.gen(function*() {
      const silent = yield* silentEndpoint
      const kv = yield* client({ endpoints: [silent.endpoint], deadline: "1 hour" })
      const fiber = yield* Effect.forkChild(kv.get("a"))
      yield* Effect.repeat(silent.stats, { until: ({ opened }) => opened > 0, schedule: Schedule.spaced("5 millis") })
      yield* Fiber.interrupt(fiber)
    }))
})

describe("retries", () => {
  const transient = [
    [status.UNAVAILABLE, "etcdserver: leader changed"],
    [status.UNAVAILABLE, "etcdserver: request timed out"],
    [status.UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure"],
    [status.UNAVAILABLE, "etcdserver: server stopped"],
    [status.UNKNOWN, "context deadline exceeded"],
    [status.CANCELLED, "context canceled"],
    [status.INTERNAL, "something broke"],
    [status.RESOURCE_EXHAUSTED, "Bandwidth exhausted or memory limit exceeded"],
    [status.UNAVAILABLE, "No connection established. Last error: said by a server that lies"]
  ] as const

  for (const [code, details] of transient) {
    it.live(`after ${status[code]} "${details}" a read is retried, and a write is not and ends as Indeterminate`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeEtcd.make(() => ({ code, details }))
        const kv = yield* client({ endpoints: [fake.endpoint], deadline: "10 seconds" })
        const failure = yield* reason(kv.put("a", "1"))
        assert.strictEqual(failure._tag, "Indeterminate")
        assert.include(failure.message, details)
        assert.strictEqual(fake.received.length, 1)
        fake.reply = () => fake.received.length < 4 ? { code, details } : rangeResponse
        yield* kv.get("a")
        assert.strictEqual(fake.received.length, 4)
      }))
  }

  const rejections = [
    [status.UNAVAILABLE, "etcdserver: no leader"],
    [status.RESOURCE_EXHAUSTED, "etcdserver: too many requests"],
    [status.UNAVAILABLE, "etcdserver: not capable"],
    [status.UNAVAILABLE, "etcdserver: rpc not supported for learner"]
  ] as const

  for (const [code, details] of rejections) {
    it.live(`after ${status[code]} "${details}" a write is retried too, because the server rejected it`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeEtcd.make()
        fake.reply = () => fake.received.length < 3 ? { code, details } : putResponse
        const kv = yield* client({ endpoints: [fake.endpoint] })
        assert.strictEqual((yield* kv.put("a", "1")).revision, 7n)
        assert.strictEqual(fake.received.length, 3)
        fake.reply = () => ({ code, details })
        assert.strictEqual((yield* reason(Deadline.within(kv.get("a"), "200 millis"))).outcome, "NotApplied")
      }))
  }

  const final = [
    ["put", status.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", "QuotaExceeded", "Unknown"],
    ["put", status.INVALID_ARGUMENT, "etcdserver: request is too large", "RequestTooLarge", "NotApplied"],
    ["put", status.INVALID_ARGUMENT, "etcdserver: key is not provided", "InvalidRequest", "NotApplied"],
    ["put", status.NOT_FOUND, "etcdserver: requested lease not found", "LeaseNotFound", "NotApplied"],
    ["put", status.PERMISSION_DENIED, "etcdserver: permission denied", "PermissionDenied", "NotApplied"],
    ["get", status.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", "Compacted", "NotApplied"],
    [
      "get",
      status.OUT_OF_RANGE,
      "etcdserver: mvcc: required revision is a future revision",
      "FutureRevision",
      "NotApplied"
    ],
    ["get", status.INVALID_ARGUMENT, "etcdserver: user name is empty", "Unauthenticated", "NotApplied"]
  ] as const

  it.live("a message that is too large is the request or, at a proxy, the response to one that was executed", () =>
    Effect.gen(function*() {
      const tooLarge = (size: number) => ({
        code: status.RESOURCE_EXHAUSTED,
        details: `grpc: received message larger than max (${size} vs. 10)`
      })
      const fake = yield* FakeEtcd.make(() => tooLarge(30_000))
      const kv = yield* client({ endpoints: [fake.endpoint] })
      assert.strictEqual((yield* reason(kv.put("a", "1")))._tag, "Indeterminate")
      assert.strictEqual((yield* reason(kv.get("a")))._tag, "RequestTooLarge")
      assert.strictEqual(fake.received.length, 2, "neither is repeated")
      // Two fields, each with a tag and a length.
      fake.reply = () => tooLarge(2 * 2 + 2)
      const failure = yield* reason(kv.put("a", "1"))
      assert.deepStrictEqual([failure._tag, failure.outcome], ["RequestTooLarge", "NotApplied"])
    }))

  for (const [method, code, details, tag, outcome] of final) {
    it.live(`"${details}" is ${tag} and is not retried`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeEtcd.make(() => ({ code, details }))
        const kv = yield* client({ endpoints: [fake.endpoint] })
        const failure = yield* reason<unknown>(method === "put" ? kv.put("a", "1") : kv.get("a"))
        assert.strictEqual(failure._tag, tag)
        assert.strictEqual(failure.outcome, outcome)
        assert.strictEqual(fake.received.length, 1)
        fake.reply = () => rangeResponse
        assert.strictEqual(yield* kv.count(KeyRange.all), 0)
      }))
  }
})

describe("a failure", () => {
  it.live("a failure holds the endpoint and the gRPC status it came with", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "300 millis" })
      const silent = yield* Effect.flip(kv.get("a"))
      assert.deepStrictEqual([silent.endpoint, silent.status], [fake.endpoint, status.DEADLINE_EXCEEDED])
      const cases = [
        [status.NOT_FOUND, "etcdserver: requested lease not found"],
        [status.INTERNAL, "something broke"]
      ] as const
      for (const [code, details] of cases) {
        fake.reply = () => ({ code, details })
        const failure = yield* Effect.flip(kv.put("a", "1"))
        assert.deepStrictEqual([failure.endpoint, failure.status], [fake.endpoint, code])
        assert.deepStrictEqual(Schema.decodeUnknownSync(KvError)(Schema.encodeSync(KvError)(failure)), failure)
      }
      const invalid = yield* Effect.flip(kv.put("", "1"))
      assert.deepStrictEqual([invalid.endpoint, invalid.status], [undefined, undefined])
    }))

  it.live("a failure says which call was denied and on which keys, and never contains a value", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({
        code: status.PERMISSION_DENIED,
        details: "etcdserver: permission denied"
      }))
      const kv = yield* client({ endpoints: [fake.endpoint], prefix: "app/" })
      const calls: ReadonlyArray<readonly [Effect.Effect<unknown, KvError>, string]> = [
        [kv.put("a", "secret"), `put "app/a"`],
        [kv.get("a"), `get "app/a"`],
        [kv.deleteRange(KeyRange.prefix("p/")), `delete the keys with the prefix "app/p/"`],
        [kv.count(KeyRange.halfOpen("a", "c")), `get the keys from "app/a" to before "app/c"`],
        [
          kv.txn({ if: [Compare.exists("c")], then: [Op.put("a", "secret")], else: [Op.txn({ then: [Op.get("b")] })] }),
          `txn on "app/c": put "app/a", txn: get "app/b"`
        ],
        [backendOf(kv).leaseRevoke(31n), "leaseRevoke 1f"],
        [backendOf(kv).leaseTimeToLive(31n), "leaseTimeToLive 1f"]
      ]
      for (const [call, denied] of calls) {
        const { _tag, message } = yield* reason(call)
        assert.strictEqual(_tag, "PermissionDenied")
        assert.include(message, denied)
        assert.include(message, fake.endpoint)
        assert.notInclude(message, "secret")
      }
      const many = Array.from({ length: 100 }, (_, i) => Op.put(`${i}`, ""))
      assert.isBelow((yield* reason(kv.txn({ then: many }))).message.length, 500)
    }))
})

describe("an endpoint that goes down and comes back", () => {
  it.live("an endpoint that goes down and comes back logs one warning for each change, with the endpoint and the reason", () =>
    Effect.gen(function*() {
      const warnings: Array<{ readonly message: unknown; readonly annotations: Readonly<Record<string, unknown>> }> = []
      const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
        if (logLevel === "Warn") {
          warnings.push({ message, annotations: { ...fiber.getRef(References.CurrentLogAnnotations) } })
        }
      })
      const fake = yield* FakeEtcd.make(() => rangeResponse)
      const proxy = yield* TcpProxy.make({ target: fake.endpoint })
      const kv = yield* Effect.provide(
        client({ endpoints: [proxy.endpoint], deadline: "400 millis" }),
        Logger.layer([logger])
      )
      yield* kv.get("a")
      assert.deepStrictEqual(warnings, [])
      for (let round = 1; round <= 2; round++) {
        yield* proxy.down
        for (let i = 0; i < 5; i++) yield* reason(kv.get("a"))
        assert.strictEqual(warnings.length, 2 * round - 1)
        yield* proxy.up
        yield* Deadline.within(kv.get("a"), "10 seconds")
        for (let i = 0; i < 5; i++) yield* kv.get("a")
        assert.strictEqual(warnings.length, 2 * round)
      }
      const [down, up] = warnings
      assert.strictEqual(down?.annotations["endpoint"], proxy.endpoint)
      assert.strictEqual(up?.annotations["endpoint"], proxy.endpoint)
      assert.match(`${down?.message}`, /down/)
      assert.match(`${down?.annotations["reason"]}`, /./)
      assert.match(`${up?.message}`, /responds again/)
    }))
})

describe("several endpoints", () => {
  it.live("a read goes to another endpoint immediately if one rejects it", () =>
    Effect.gen(function*() {
      const bad = yield* FakeEtcd.make(() => ({ code: status.UNAVAILABLE, details: "etcdserver: no leader" }))
      const good = yield* FakeEtcd.make(() => rangeResponse)
      const kv = yield* client({ endpoints: [bad.endpoint, good.endpoint] })
      for (let i = 0; i < 20; i++) {
        const [elapsed] = yield* timedWithoutStalls(kv.get("a"))
        assert.isBelow(elapsed, 1000)
      }
      assert.isAtMost(bad.received.length, 1)
    }))

  it.live("a read that hangs on one endpoint succeeds on another within its deadline, and later calls go there first", () =>
    Effect.gen(function*() {
      const good = yield* FakeEtcd.make(() => rangeResponse)
      const bad = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [bad.endpoint, good.endpoint], deadline: "1 second" })
      yield* kv.get("a")
      yield* kv.get("a")
      const before = bad.received.length
      for (let i = 0; i < 10; i++) yield* kv.get("a")
      assert.strictEqual(bad.received.length, before)
      assert.isAtMost(before, 1)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("a write goes to another endpoint only if it was not sent", () =>
    Effect.gen(function*() {
      const good = yield* FakeEtcd.make(() => putResponse)
      const kv = yield* client({ endpoints: ["http://127.0.0.1:1", good.endpoint], deadline: "2 seconds" })
      for (let i = 0; i < 10; i++) yield* kv.put("a", `${i}`)
      assert.strictEqual(good.received.length, 10)
      const hanging = yield* FakeEtcd.make()
      const both = yield* client({ endpoints: [hanging.endpoint, good.endpoint], deadline: "300 millis" })
      const before = good.received.length
      const results = yield* Effect.forEach([1, 2, 3], () => Effect.exit(both.put("a", "1")))
      const failed = results.filter((exit) => exit._tag === "Failure").length
      assert.strictEqual(hanging.received.length, failed)
      assert.strictEqual(good.received.length - before, 3 - failed)
      assert.isAtMost(failed, 1)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("an endpoint that cannot be connected to does not use up the time of the others, also for writes", () =>
    Effect.gen(function*() {
      const silent = yield* silentEndpoint
      const good = yield* FakeEtcd.make(() => putResponse)
      // The first endpoint is random; this many attempts hit both.
      for (let i = 0; i < 8; i++) {
        const kv = yield* client({ endpoints: [silent.endpoint, good.endpoint], deadline: "400 millis" })
        yield* kv.put("a", "1")
        yield* kv.put("a", "2")
      }
      assert.strictEqual(good.received.length, 16)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("a call fails over within seconds from an endpoint that never finishes connecting, however long the deadline", () =>
    Effect.gen(function*() {
      const silent = yield* silentEndpoint
      const good = yield* FakeEtcd.make(() => putResponse)
      // The first endpoint is random; this many attempts hit both.
      const puts = Array.from({ length: 8 }, () =>
        Effect.flatMap(
          client({ endpoints: [silent.endpoint, good.endpoint], deadline: "1 hour" }),
          (kv) => kv.put("a", "1")
        ))
      const [elapsed] = yield* timedWithoutStalls(Effect.all(puts, { concurrency: "unbounded" }))
      assert.isBelow(elapsed, 10_000)
    }))

  for (const silence of ["never finishes connecting", "never responds"] as const) {
    it.live(`an endpoint that ${silence} does not use up the time of one that responds a moment later`, () =>
      Effect.gen(function*() {
        const silent = silence === "never responds" ? yield* FakeEtcd.make() : yield* silentEndpoint
        // The first endpoint is random; this many attempts hit both.
        for (let i = 0; i < 6; i++) {
          let until: number | undefined = undefined
          const electing = yield* FakeEtcd.make(() => {
            until ??= performance.now() + 100
            if (performance.now() > until) return rangeResponse
            return { code: status.UNAVAILABLE, details: "etcdserver: no leader" }
          })
          const kv = yield* client({ endpoints: [electing.endpoint, silent.endpoint], deadline: "1 second" })
          assert.strictEqual(yield* kv.count(KeyRange.all), 0)
        }
      }).pipe(Effect.scoped, unlessStalled(1000)))
  }
})
