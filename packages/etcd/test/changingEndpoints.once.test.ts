/**
 * Endpoints from a stream, which change while calls are in flight, a lock is held and a watch is open.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as KvError from "@effect-kv/core/KvError"
import type * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, TcpProxy, TestCertificates } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { hold } from "./support/holdings.ts"
import * as logs from "./support/logs.ts"
import { eventually } from "./support/watching.ts"

class DiscoveryError extends Data.TaggedError("DiscoveryError")<{ readonly message: string }> {}

class Builder extends Context.Reference("test/Builder", { defaultValue: () => "nobody" }) {}

type Lists = Queue.Queue<ReadonlyArray<string>, DiscoveryError | Cause.Done>

/** A client whose endpoints are lists in a queue. */
const changing = Effect.fnUntraced(function*(
  first: ReadonlyArray<string>,
  options?: Partial<EtcdLayer.Options>
) {
  const queue: Lists = yield* Queue.unbounded<ReadonlyArray<string>, DiscoveryError | Cause.Done>()
  yield* Queue.offer(queue, first)
  const { collect, lines } = logs.make()
  const kv = yield* collect(client({ endpoints: Stream.fromQueue(queue), ...options }))
  /** Changes the endpoints, and waits until the client has done so. */
  const change = Effect.fnUntraced(function*(list: ReadonlyArray<string>) {
    yield* Queue.offer(queue, list)
    yield* eventually(Effect.sync(() => logs.lastEndpoints(lines)?.join() === list.join()))
  })
  return { change, kv, lines, queue }
})

const responding = FakeEtcd.make(() => ({ response: { header: FakeEtcd.header } }))

describe("endpoints from a stream", () => {
  it.live(
    "moving from one member to another loses neither lock, temporary key nor event, and nothing connects to the first again",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make({ members: 3 })
        const [a, b] = yield* Effect.forEach(cluster.endpoints.slice(0, 2), (target) => TcpProxy.make({ target }))
        const { change, kv } = yield* changing([a!.endpoint])
        const other = yield* client({ endpoints: [cluster.endpoints[2]!], batching: false })
        const held = yield* hold(kv, "6 seconds")
        const expected = Array.from({ length: 200 }, (_, i) => `${i}`)
        const writing = yield* Effect.forkChild(
          Effect.forEach(expected, (value) => Effect.andThen(other.put("seen", value), Effect.sleep("2 millis")))
        )
        yield* eventually(Effect.map(kv.get("seen"), Option.exists((value) => Number(value) > 20)))
        yield* change([b!.endpoint])
        yield* eventually(Effect.map(a!.stats, ({ live }) => live === 0))
        const { opened } = yield* a!.stats
        yield* Fiber.join(writing)
        yield* held.renewed
        // Even if the second one fails.
        yield* b!.cut
        yield* Effect.retry(kv.put("a", "1"), { times: 5 })
        yield* Effect.scoped(kv.subscribe(KeyRange.key("a")))
        yield* held.check(expected)
        assert.deepStrictEqual((({ live, opened }) => ({ live, opened }))(yield* a!.stats), { live: 0, opened })
      }),
    60_000
  )

  it.live(
    "while the endpoints change 140 times, no call fails, no event is lost, and the lock is kept",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make({ members: 3 })
        const [a, b, c] = cluster.endpoints as [string, string, string]
        const { kv, queue } = yield* changing([a])
        const held = yield* hold(kv, "12 seconds")
        const lists = [[b], [b, c], [c], [a, b, c], [a], [c, a], [a, b]]
        const moving = yield* Effect.forkChild(
          Effect.forEach(
            Array.from({ length: 20 }).flatMap(() => lists),
            (list) => Effect.andThen(Queue.offer(queue, list), Effect.sleep("20 millis"))
          )
        )
        const expected: Array<string> = []
        while (moving.pollUnsafe() === undefined) {
          const value = `${expected.length}`
          expected.push(value)
          yield* Effect.all([
            kv.put("seen", value),
            ...["x", "y", "z"].map((key) => kv.put(key, value)),
            ...["x", "y", "z"].map((key) => kv.get(key)),
            Effect.scoped(kv.subscribe(KeyRange.key("x")))
          ], { concurrency: "unbounded" })
        }
        yield* Fiber.join(moving)
        yield* held.check(expected)
      }),
    60_000
  )

  it.live("calls in flight to a removed endpoint complete, and later calls go to the new one at once", () =>
    Effect.gen(function*() {
      const a = yield* FakeEtcd.make(({ method }) =>
        method === "Put" ? "hang" : { response: { header: FakeEtcd.header } }
      )
      const b = yield* responding
      const { change, kv } = yield* changing([a.endpoint])
      const writing = yield* Effect.forkChild(kv.put("a", "1"))
      yield* a.awaitReceived(1)
      yield* change([b.endpoint])
      yield* kv.put("b", "1")
      yield* kv.get("b")
      assert.strictEqual(b.received.length, 2)
      yield* a.respond({ header: { ...FakeEtcd.header, revision: "8" } })
      assert.strictEqual((yield* Fiber.join(writing)).revision, 8n)
      assert.strictEqual(a.received.length, 1)
    }))

  it.live("a call that waits for a removed endpoint goes to the new one, and the removed one is not reported as down", () =>
    Effect.gen(function*() {
      const b = yield* responding
      const a = yield* TcpProxy.make({ target: b.endpoint })
      yield* a.swallow(true)
      const { change, kv, lines } = yield* changing([a.endpoint], { deadline: "20 seconds" })
      const writing = yield* Effect.forkChild(kv.put("a", "1"))
      yield* eventually(Effect.map(a.stats, ({ opened }) => opened > 0))
      yield* change([b.endpoint])
      yield* Fiber.join(writing)
      yield* eventually(Effect.map(a.stats, ({ live }) => live === 0))
      assert.deepStrictEqual(lines.filter(({ level }) => level === "Warn"), [])
    }))

  it.live("a read that a removed endpoint rejects is repeated on the new one", () =>
    Effect.gen(function*() {
      const a = yield* FakeEtcd.make()
      const b = yield* responding
      const { change, kv } = yield* changing([a.endpoint])
      const reading = yield* Effect.forkChild(kv.get("a"))
      yield* a.awaitReceived(1)
      yield* change([b.endpoint])
      yield* a.drop
      assert.deepStrictEqual(yield* Fiber.join(reading), Option.none())
      assert.strictEqual(b.received.length, 1)
    }))

  it.live("an added endpoint is used when the others fail, and an endpoint that stays keeps its connection", () =>
    Effect.gen(function*() {
      const target = (yield* responding).endpoint
      const [a, b, c] = yield* Effect.replicateEffect(TcpProxy.make({ target }), 3)
      const { change, kv } = yield* changing([a!.endpoint])
      yield* kv.get("a")
      yield* change([b!.endpoint, a!.endpoint])
      yield* kv.get("a")
      assert.deepStrictEqual([(yield* a!.stats).opened, (yield* b!.stats).opened], [1, 0])
      yield* a!.down
      yield* kv.get("a")
      assert.isAbove((yield* b!.stats).opened, 0)
      // The endpoint in use is removed, then comes back with new connections.
      yield* change([c!.endpoint])
      yield* kv.get("a")
      yield* change([b!.endpoint])
      yield* kv.get("a")
      yield* eventually(Effect.map(c!.stats, ({ live }) => live === 0))
    }))

  it.live("invalid and empty lists are ignored with a warning that does not repeat them, and later lists count", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.replicateEffect(responding, 2)
      const { change, kv, lines, queue } = yield* changing([a!.endpoint])
      const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp]> = [
        [[], /endpoints is empty/],
        [["http://hunter2"], /endpoints\[0\] has no port/],
        [["https://hunter2:1"], /the scheme differs/],
        [["https://hunter2:1", "http://hunter2:1"], /one scheme/]
      ]
      for (const [list, message] of wrong) {
        const before = lines.length
        yield* Queue.offer(queue, list)
        yield* eventually(Effect.sync(() => lines.length > before))
        assert.strictEqual(lines[before]?.message, "effect-kv: a list of endpoints was ignored")
        assert.match(String(lines[before]?.annotations["reason"]), message)
        yield* kv.get("a")
      }
      assert.notInclude(JSON.stringify(lines), "hunter2")
      assert.strictEqual(a!.received.length, 4)
      yield* change([b!.endpoint])
      yield* kv.get("a")
      assert.strictEqual(b!.received.length, 1)
    }))

  it.live("the last list stays in use when the stream ends, and with a warning when it fails", () =>
    Effect.gen(function*() {
      const fake = yield* responding
      for (const fails of [false, true]) {
        const { kv, lines, queue } = yield* changing([fake.endpoint])
        yield* fails
          ? Queue.fail(queue, new DiscoveryError({ message: "hunter2" }))
          : Queue.end(queue as Queue.Queue<ReadonlyArray<string>, Cause.Done>)
        if (fails) {
          yield* eventually(Effect.sync(() => lines.length > 0))
          assert.match(lines[0]!.message, /the stream of endpoints failed, and its last list stays in use/)
          assert.strictEqual(lines[0]!.annotations["reason"], "DiscoveryError")
        }
        yield* kv.get("a")
      }
    }))

  it.live("the layer waits for the first list, and fails if there is none or if it is invalid", () =>
    Effect.gen(function*() {
      const fake = yield* responding
      const queue: Lists = yield* Queue.unbounded<ReadonlyArray<string>, DiscoveryError | Cause.Done>()
      const opening = yield* Effect.forkChild(client({ endpoints: Stream.fromQueue(queue) }), {
        startImmediately: true
      })
      assert.isUndefined(opening.pollUnsafe())
      yield* Queue.offer(queue, [fake.endpoint])
      const kv = yield* Fiber.join(opening)
      yield* kv.get("a")
      const cases: ReadonlyArray<readonly [EtcdLayer.Options["endpoints"], KvError.Reason["_tag"], RegExp]> = [
        [Stream.empty, "InvalidRequest", /ended without a list/],
        [
          Stream.fail(new DiscoveryError({ message: "hunter2" })),
          "Unavailable",
          /before its first list: DiscoveryError/
        ],
        [Stream.die("hunter2"), "Unavailable", /before its first list: a failure of type string/],
        [Stream.make([]), "InvalidRequest", /endpoints is empty/],
        [Stream.make(["http://hunter2"]), "InvalidRequest", /has no port/]
      ]
      for (const [endpoints, tag, message] of cases) {
        const failure = yield* reason(Effect.scoped(client({ endpoints })))
        assert.strictEqual(failure._tag, tag)
        assert.match(failure.message, message)
        assert.notInclude(failure.message, "hunter2")
      }
    }))

  it.live("the stream runs in the context in which the layer is built, and closing the layer ends it", () =>
    Effect.gen(function*() {
      const fake = yield* responding
      let isClosed = false
      const builders: Array<string> = []
      const list = Effect.map(Builder, (builder) => {
        builders.push(builder)
        return [fake.endpoint]
      })
      const endpoints = Stream.fromEffect(list).pipe(
        Stream.concat(Stream.fromEffect(list)),
        Stream.concat(Stream.never),
        Stream.ensuring(Effect.sync(() => (isClosed = true)))
      )
      const scope = yield* Scope.make()
      const kv = yield* Scope.provide(Effect.provideService(client({ endpoints }), Builder, "builder"), scope)
      yield* kv.get("a")
      yield* eventually(Effect.sync(() => builders.length === 2))
      assert.deepStrictEqual(builders, ["builder", "builder"])
      assert.isFalse(isClosed)
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(isClosed)
    }))

  it.effect("the stream keeps the clock of the layer's builder", () =>
    Effect.gen(function*() {
      const fake = yield* responding
      const times: Array<number> = []
      const list = Effect.map(Clock.currentTimeMillis, (now) => {
        times.push(now)
        return [fake.endpoint]
      })
      const kv = yield* client({ endpoints: Stream.concat(Stream.fromEffect(list), Stream.fromEffect(list)) })
      yield* Effect.repeat(kv.get("a"), { until: () => times.length === 2 })
      assert.deepStrictEqual(times, [0, 0])
    }))

  it.live("a layer that is closed while a removed endpoint drains ends its calls, and leaves no connection", () =>
    Effect.gen(function*() {
      const hanging = yield* FakeEtcd.make()
      const a = yield* TcpProxy.make({ target: hanging.endpoint })
      const b = yield* responding
      const scope = yield* Scope.make()
      const { change, kv } = yield* Scope.provide(changing([a.endpoint]), scope)
      const writing = yield* Effect.forkChild(reason(Deadline.within(kv.put("a", "1"), "1 hour")))
      yield* hanging.awaitReceived(1)
      yield* change([b.endpoint])
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Fiber.join(writing))._tag, "Indeterminate")
      yield* eventually(Effect.map(a.stats, ({ live }) => live === 0))
    }))

  it.live("a stream of https endpoints uses TLS", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const cluster = yield* EtcdCluster.make({ tls: { server: yield* authority.server(), ca: authority.ca } })
      const { kv } = yield* changing(cluster.endpoints, { tls: { ca: authority.ca.cert } })
      yield* kv.put("a", "1")
      const error = yield* Effect.flip(changing(["http://127.0.0.1:1"], { tls: {} }))
      assert.match(error.message, /tls is given, but the endpoints are http/)
    }))
})
