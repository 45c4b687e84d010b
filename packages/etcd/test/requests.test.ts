/**
 * What becomes of requests: deadlines, interruption, and what is repeated and what is not, against a server that does
 * what the test says.
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
import { client, reason, timed } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"

const putAnswer = { answer: { header: FakeEtcd.header } }
const rangeAnswer = { answer: { header: FakeEtcd.header, kvs: [], more: false, count: "0" } }

/** Accepts connections and says nothing on them: gRPC goes on connecting for ever. */
const silentEndpoint = Effect.tap(TcpProxy.make({ target: 1 }), (proxy) => proxy.blackhole())

const methods = (fake: FakeEtcd.FakeEtcd): ReadonlyArray<string> => fake.received.map(({ method }) => method)

describe("deadlines", () => {
  it.live("a read that is not answered fails with DeadlineExceeded when its deadline passes", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "300 millis" })
      const [elapsed, failure] = yield* timed(reason(kv.get("a")))
      assert.strictEqual(failure._tag, "DeadlineExceeded")
      assert.include(failure.message, fake.endpoint)
      assert.isTrue(elapsed >= 300 && elapsed < 1000, `${elapsed} ms`)
    }))

  it.live("the layer's is that of opening a watch too", () =>
    Effect.gen(function*() {
      const silent = yield* silentEndpoint
      const kv = yield* client({ endpoints: [silent.endpoint], deadline: "300 millis" })
      const [elapsed, failure] = yield* timed(reason(Effect.scoped(kv.subscribe(KeyRange.key("a")))))
      assert.strictEqual(failure._tag, "Unavailable")
      assert.isTrue(elapsed >= 300 && elapsed < 1000, `${elapsed} ms`)
    }))

  it.live("a write that is not answered is Indeterminate when its deadline passes, and was sent once", () =>
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
    }))

  it.live("a call's own deadline takes the place of the layer's", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "1 hour" })
      const [elapsed] = yield* timed(reason(Deadline.within(kv.get("a"), "200 millis")))
      assert.isBelow(elapsed, 1000)
    }))

  it.live("the deadline covers all attempts together", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => ({ code: status.UNAVAILABLE, details: "etcdserver: leader changed" }))
      const kv = yield* client({ endpoints: [fake.endpoint], deadline: "500 millis" })
      const [elapsed, failure] = yield* timed(reason(kv.get("a")))
      // It is refused, or on its way once more.
      assert.include(["Unavailable", "DeadlineExceeded"], failure._tag)
      assert.include(failure.message, "leader changed")
      assert.isTrue(elapsed >= 500 && elapsed < 1200, `${elapsed} ms`)
      assert.isAbove(fake.received.length, 3)
    }))

  it.live("the server is told how much time there is", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(() => rangeAnswer)
      const kv = yield* client({ endpoints: [fake.endpoint] })
      yield* kv.get("a")
      assert.isTrue(fake.received[0]!.timeout > 0 && fake.received[0]!.timeout < 7000)
    }))
})

describe("interruption", () => {
  it.live("reaches the server at once", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint] })
      const fiber = yield* Effect.forkChild(kv.put("a", "1"))
      yield* fake.awaitReceived(1)
      const [elapsed] = yield* timed(Effect.andThen(Fiber.interrupt(fiber), fake.awaitCancelled(1)))
      assert.isBelow(elapsed, 100)
    }))

  it.live("of a call that has just been made leaves no request behind", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(({ request }) => String(request["key"]) === "a" ? "hang" : rangeAnswer)
      const kv = yield* client({ endpoints: [fake.endpoint] })
      yield* kv.get("first")
      // Interrupted after so many microtasks, one after the other, to hit each stage of a call's beginning.
      for (let ticks = 0; ticks < 40; ticks++) {
        const fiber = Effect.runFork(kv.get("a"))
        for (let i = 0; i < ticks; i++) yield* Effect.promise(() => Promise.resolve())
        yield* Fiber.interrupt(fiber)
      }
      // On the same connection it comes after all of them.
      yield* kv.get("last")
      assert.isAbove(fake.received.length, 20)
      yield* fake.awaitCancelled(fake.received.length - 2)
    }))

  it.live("ends a call that waits for a connection", () =>
    Effect.gen(function*() {
      const silent = yield* silentEndpoint
      const kv = yield* client({ endpoints: [silent.endpoint], deadline: "1 hour" })
      const fiber = yield* Effect.forkChild(kv.get("a"))
      yield* Effect.repeat(silent.stats, { until: ({ opened }) => opened > 0, schedule: Schedule.spaced("5 millis") })
      const [elapsed] = yield* timed(Fiber.interrupt(fiber))
      assert.isBelow(elapsed, 100)
    }))
})

describe("what is repeated", () => {
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
    it.live(`${status[code]} "${details}": a read is, a write is not and is Indeterminate`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeEtcd.make(() => ({ code, details }))
        const kv = yield* client({ endpoints: [fake.endpoint], deadline: "10 seconds" })
        const failure = yield* reason(kv.put("a", "1"))
        assert.strictEqual(failure._tag, "Indeterminate")
        assert.include(failure.message, details)
        assert.strictEqual(fake.received.length, 1)
        fake.reply = () => fake.received.length < 4 ? { code, details } : rangeAnswer
        yield* kv.get("a")
        assert.strictEqual(fake.received.length, 4)
      }))
  }

  const refusals = [
    [status.UNAVAILABLE, "etcdserver: no leader"],
    [status.RESOURCE_EXHAUSTED, "etcdserver: too many requests"],
    [status.UNAVAILABLE, "etcdserver: not capable"],
    [status.UNAVAILABLE, "etcdserver: rpc not supported for learner"]
  ] as const

  for (const [code, details] of refusals) {
    it.live(`${status[code]} "${details}": a write is too, since the server refused it`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeEtcd.make()
        fake.reply = () => fake.received.length < 3 ? { code, details } : putAnswer
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
    it.live(`"${details}" is ${tag} and not repeated`, () =>
      Effect.gen(function*() {
        const fake = yield* FakeEtcd.make(() => ({ code, details }))
        const kv = yield* client({ endpoints: [fake.endpoint] })
        const failure = yield* reason<unknown>(method === "put" ? kv.put("a", "1") : kv.get("a"))
        assert.strictEqual(failure._tag, tag)
        assert.strictEqual(failure.outcome, outcome)
        assert.strictEqual(fake.received.length, 1)
        fake.reply = () => rangeAnswer
        assert.strictEqual(yield* kv.count(KeyRange.all), 0)
      }))
  }
})

describe("a failure", () => {
  it.live("holds the endpoint and the gRPC status it came with", () =>
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

  it.live("says which call was denied, on which keys, and never a value", () =>
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
  it.live("is a warning each, once for each change, with the endpoint and the reason", () =>
    Effect.gen(function*() {
      const warnings: Array<{ readonly message: unknown; readonly annotations: Readonly<Record<string, unknown>> }> = []
      const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
        if (logLevel === "Warn") {
          warnings.push({ message, annotations: { ...fiber.getRef(References.CurrentLogAnnotations) } })
        }
      })
      const fake = yield* FakeEtcd.make(() => rangeAnswer)
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
      assert.match(`${up?.message}`, /answers again/)
    }))
})

describe("several endpoints", () => {
  it.live("a read goes to another when one refuses, at once", () =>
    Effect.gen(function*() {
      const bad = yield* FakeEtcd.make(() => ({ code: status.UNAVAILABLE, details: "etcdserver: no leader" }))
      const good = yield* FakeEtcd.make(() => rangeAnswer)
      const kv = yield* client({ endpoints: [bad.endpoint, good.endpoint] })
      for (let i = 0; i < 20; i++) {
        const [elapsed] = yield* timed(kv.get("a"))
        assert.isBelow(elapsed, 1000)
      }
      assert.isAtMost(bad.received.length, 1)
    }))

  it.live("a read that hangs on one is answered by another within its deadline; later calls go there first", () =>
    Effect.gen(function*() {
      const good = yield* FakeEtcd.make(() => rangeAnswer)
      const bad = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [bad.endpoint, good.endpoint], deadline: "1 second" })
      yield* kv.get("a")
      yield* kv.get("a")
      const before = bad.received.length
      for (let i = 0; i < 10; i++) yield* kv.get("a")
      assert.strictEqual(bad.received.length, before)
      assert.isAtMost(before, 1)
    }))

  it.live("a write is sent to another only if it did not leave", () =>
    Effect.gen(function*() {
      const good = yield* FakeEtcd.make(() => putAnswer)
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
    }))

  it.live("one that cannot be connected to does not use up the time of the others, not even of writes", () =>
    Effect.gen(function*() {
      const silent = yield* silentEndpoint
      const good = yield* FakeEtcd.make(() => putAnswer)
      // Which endpoint is the first is chosen at random: this is often enough.
      for (let i = 0; i < 8; i++) {
        const kv = yield* client({ endpoints: [silent.endpoint, good.endpoint], deadline: "400 millis" })
        yield* kv.put("a", "1")
        yield* kv.put("a", "2")
      }
      assert.strictEqual(good.received.length, 16)
    }))

  it.live("one that connects for ever is left for another in seconds, however long the deadline", () =>
    Effect.gen(function*() {
      const silent = yield* silentEndpoint
      const good = yield* FakeEtcd.make(() => putAnswer)
      // Which endpoint is the first is chosen at random: this is often enough.
      const puts = Array.from({ length: 8 }, () =>
        Effect.flatMap(
          client({ endpoints: [silent.endpoint, good.endpoint], deadline: "1 hour" }),
          (kv) => kv.put("a", "1")
        ))
      const [elapsed] = yield* timed(Effect.all(puts, { concurrency: "unbounded" }))
      assert.isBelow(elapsed, 10_000)
    }))

  for (const silence of ["connects for ever", "never answers"] as const) {
    it.live(`one that ${silence} does not use up the time of one that will answer in a moment`, () =>
      Effect.gen(function*() {
        const silent = silence === "never answers" ? yield* FakeEtcd.make() : yield* silentEndpoint
        // Which endpoint is the first is chosen at random: this is often enough.
        for (let i = 0; i < 6; i++) {
          let until: number | undefined = undefined
          const electing = yield* FakeEtcd.make(() => {
            until ??= performance.now() + 100
            if (performance.now() > until) return rangeAnswer
            return { code: status.UNAVAILABLE, details: "etcdserver: no leader" }
          })
          const kv = yield* client({ endpoints: [electing.endpoint, silent.endpoint], deadline: "1 second" })
          assert.strictEqual(yield* kv.count(KeyRange.all), 0)
        }
      }))
  }
})
