/**
 * How the client obtains and replaces tokens, on a fake server with scripted responses.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KvError from "@effect-kv/core/KvError"
import { assert, describe, it } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as tokens from "../src/internal/rpc/tokens.ts"
import * as Peer from "./grpc/support/Peer.ts"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"

const auth = { username: "app", password: Redacted.make("secret") }
const putResponse = { response: { header: FakeEtcd.header } }
const invalidToken = { code: status.UNAUTHENTICATED, details: "etcdserver: invalid auth token" }
const oldRevision = { code: status.INVALID_ARGUMENT, details: "etcdserver: revision of auth store is old" }

const token = (text: string): FakeEtcd.Reply => ({ response: { header: FakeEtcd.header, token: text } })

const count = (fake: FakeEtcd.FakeEtcd, method: string): number =>
  fake.received.filter((received) => received.method === method).length

describe("tokens", () => {
  it.live("the token goes with every request, and the password only with the request for a token", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(({ method }) => method === "Authenticate" ? token("t1") : putResponse)
      const kv = yield* client({ endpoints: [fake.endpoint], auth })
      yield* kv.put("a", "1")
      assert.deepStrictEqual(fake.received.map(({ metadata, method }) => [method, metadata.get("token")]), [
        ["Authenticate", []],
        ["Put", ["t1"]]
      ])
    }))

  it.live("a call whose tokens the server always rejects fails after a few new tokens", () =>
    Effect.gen(function*() {
      for (const rejection of [invalidToken, oldRevision]) {
        const fake = yield* FakeEtcd.make(({ method }) => method === "Authenticate" ? token("t") : rejection)
        const kv = yield* client({ endpoints: [fake.endpoint], auth })
        for (const call of [kv.put("a", "1"), kv.get("a")]) {
          const before = fake.received.length
          const failure = yield* reason<unknown>(call)
          assert.strictEqual(failure._tag, "Unauthenticated")
          assert.strictEqual(failure.outcome, "NotApplied")
          assert.isAtMost(fake.received.length - before, 6)
        }
      }
    }))

  it.live("a call whose token is too long for a request's headers fails at once, and says so", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(({ method }) =>
        method === "Authenticate" ? token("t".repeat(70_000)) : putResponse
      )
      const kv = yield* client({ endpoints: [fake.endpoint], auth })
      for (const call of [kv.put("a", "1"), kv.get("a")]) {
        const failure = yield* reason<unknown>(call)
        assert.deepStrictEqual([failure._tag, failure.outcome], ["RequestTooLarge", "NotApplied"])
        assert.match(failure.message, /the metadata \(hasleader, token\) has 700\d\d bytes; the limit is 64000$/)
      }
      assert.strictEqual(count(fake, "Put"), 0)
    }))

  it.live("the token is sent as a header that no table of HTTP/2 stores, unlike other headers", () =>
    Effect.gen(function*() {
      const secret = "t".repeat(600)
      // A header in the message's field 1, and the token in its field 2.
      const response = Buffer.concat([Buffer.from("0a08080110011807200112d804", "hex"), Buffer.from(secret)])
      const sizes: Array<number> = []
      const peer = yield* Peer.make({
        onFrame: (_, { payload, type }) => {
          if (type === Peer.Type.HEADERS) sizes.push(payload.length)
        },
        onRequest: (connection, stream) =>
          connection.respond(stream, stream === 1 ? response : Buffer.from("0a080801100118072001", "hex"))
      })
      const kv = yield* client({ endpoints: [`http://127.0.0.1:${peer.port}`], auth })
      for (let i = 0; i < 3; i++) yield* kv.get("a")
      const [authenticate, ...gets] = sizes
      assert.isBelow(authenticate!, 300)
      // A stored header would take one or two bytes from its second use on.
      for (const size of gets) assert.isAtLeast(size, 600 * 5 / 8)
      assert.isBelow(gets[1]!, gets[0]!)
    }))

  it.live("calls whose token is rejected share one new token, and each write is sent once with a valid one", () =>
    Effect.gen(function*() {
      let issued = 0
      const fake = yield* FakeEtcd.make(({ metadata, method }) => {
        if (method === "Authenticate") return token(`t${++issued}`)
        return metadata.get("token")[0] === "t1" ? invalidToken : putResponse
      })
      const kv = yield* client({ endpoints: [fake.endpoint], auth, batching: false })
      yield* Effect.forEach(Array.from({ length: 50 }), () => kv.put("a", "1"), { concurrency: "unbounded" })
      assert.strictEqual(issued, 2)
      assert.strictEqual(count(fake, "Put"), 100)
    }))

  it.live("the token request outlives the deadline or interruption of the call that started it", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], auth, deadline: "10 seconds" })
      const short = yield* Effect.forkChild(reason(Deadline.within(kv.put("a", "1"), "100 millis")))
      const interrupted = yield* Effect.forkChild(kv.put("a", "1"))
      const long = yield* Effect.forkChild(kv.put("a", "1"))
      yield* fake.awaitReceived(1)
      yield* Fiber.interrupt(interrupted)
      const failure = yield* Fiber.join(short)
      assert.strictEqual(failure._tag, "Unavailable")
      assert.include(failure.message, "token")
      assert.strictEqual(count(fake, "Authenticate"), 1)
      // The shared token request continues. It fails once and is retried.
      fake.reply = ({ method }) => method === "Authenticate" ? token("t") : putResponse
      yield* fake.drop
      yield* Fiber.join(long)
      assert.strictEqual(count(fake, "Put"), 1)
    }))

  it.live("interrupting the call that started the token request, at any step, leaves the token for other calls", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      // A fiber can be interrupted when it yields, which it does after this many steps.
      for (let steps = 2; steps < 20; steps++) {
        for (let yields = 0; yields < 4; yields++) {
          const source = tokens.make(Effect.succeed("t"), scope)
          const first = yield* Effect.forkChild(Effect.provideService(source.get, References.MaxOpsBeforeYield, steps))
          for (let i = 0; i < yields; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(first)
          const token = yield* Effect.timeoutOption(source.get, "10 seconds")
          assert.deepStrictEqual(token, Option.some("t"), `${steps} steps, ${yields} yields`)
        }
      }
    }))

  it.live("calls that wait for a token fail when the client's scope closes", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const source = tokens.make(Effect.never, scope)
      const waiting = yield* Effect.forkChild(reason(source.get))
      yield* Effect.yieldNow
      yield* Scope.close(scope, Exit.void)
      const before = yield* Effect.timeout(Fiber.join(waiting), "10 seconds")
      const after = yield* Effect.timeout(reason(source.get), "10 seconds")
      assert.deepStrictEqual([before._tag, after._tag], ["Closed", "Closed"])
    }))

  it.live("a call that waits for a token request in flight is not failed by its rejection, but makes another one", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const rejection = yield* Deferred.make<string, KvError.KvError>()
      let requests = 0
      const authenticate = Effect.suspend(() => ++requests === 1 ? Deferred.await(rejection) : Effect.succeed("t"))
      const source = tokens.make(authenticate, scope)
      const first = yield* Effect.forkChild(reason(source.get), { startImmediately: true })
      const others = yield* Effect.forkChild(Effect.replicateEffect(source.get, 3, { concurrency: "unbounded" }), {
        startImmediately: true
      })
      // All wait for the one request.
      yield* Effect.repeat(Effect.yieldNow, { until: () => requests === 1 })
      // The server has rejected the credentials before the others began, and accepts them now.
      yield* Deferred.fail(rejection, KvError.make(new KvError.Unauthenticated({ message: "rejected" })))
      assert.strictEqual((yield* Fiber.join(first))._tag, "Unauthenticated")
      assert.deepStrictEqual(yield* Fiber.join(others), ["t", "t", "t"])
      assert.strictEqual(requests, 2)
    }))

  it.live("the token request is retried if no server could be reached", () =>
    Effect.gen(function*() {
      let requests = 0
      const fake = yield* FakeEtcd.make(({ method }) => {
        if (method !== "Authenticate") return putResponse
        return ++requests < 3 ? { code: status.UNAVAILABLE, details: "etcdserver: no leader" } : token("t")
      })
      const kv = yield* client({ endpoints: [fake.endpoint], auth })
      yield* kv.put("a", "1")
      assert.strictEqual(requests, 3)
    }))

  it.live("no token is needed if authentication is disabled", () =>
    Effect.gen(function*() {
      const disabled = { code: status.FAILED_PRECONDITION, details: "etcdserver: authentication is not enabled" }
      const fake = yield* FakeEtcd.make(({ method }) => method === "Authenticate" ? disabled : putResponse)
      const kv = yield* client({ endpoints: [fake.endpoint], auth })
      yield* kv.put("a", "1")
      yield* kv.put("a", "2")
      assert.strictEqual(count(fake, "Authenticate"), 1)
      assert.deepStrictEqual(fake.received.at(-1)!.metadata.get("token"), [])
    }))
})
