/**
 * A password that an effect returns: when it runs, and what its failures mean.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Redacted from "effect/Redacted"
import { inspect } from "node:util"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { hold } from "./support/holdings.ts"
import { unlessStalled } from "./support/stalls.ts"
import { eventually } from "./support/watching.ts"

/** A server that accepts one password, and tokens that were made since the password was last changed. */
const server = Effect.fnUntraced(function*(initial: string) {
  let password = initial
  let authentications = 0
  const fake = yield* FakeEtcd.make(({ metadata, method, request }) => {
    if (method === "Authenticate") {
      authentications++
      return request["password"] === password
        ? { response: { header: FakeEtcd.header, token: `token of ${password}` } }
        : { code: status.INVALID_ARGUMENT, details: "etcdserver: authentication failed, invalid user ID or password" }
    }
    return metadata.get("token")[0] === `token of ${password}`
      ? { response: { header: FakeEtcd.header } }
      : { code: status.UNAUTHENTICATED, details: "etcdserver: invalid auth token" }
  })
  return {
    endpoint: fake.endpoint,
    changePassword: (changed: string) => Effect.sync(() => password = changed),
    authentications: () => authentications
  }
})

const as = (endpoint: string, password: EtcdLayer.AuthOptions["password"], options?: Partial<EtcdLayer.Options>) =>
  client({ endpoints: [endpoint], auth: { username: "app", password }, ...options })

class VaultError extends Data.TaggedError("VaultError")<{ readonly message: string }> {}

class Caller extends Context.Reference("test/Caller", { defaultValue: () => "nobody" }) {}

describe("a password from an effect", () => {
  it.live("the effect runs for each token, not for each call, and a changed password is used once the token is rejected", () =>
    Effect.gen(function*() {
      const fake = yield* server("first")
      let current = "first"
      let runs = 0
      const kv = yield* as(fake.endpoint, Effect.sync(() => (runs++, Redacted.make(current))))
      assert.strictEqual(runs, 0, "it runs on first use")
      yield* Effect.forEach(Array.from({ length: 20 }), (_, i) => kv.put(`${i}`, ""), { concurrency: "unbounded" })
      yield* kv.get("a")
      assert.strictEqual(runs, 1)
      yield* fake.changePassword("second")
      current = "second"
      yield* kv.put("a", "1")
      yield* kv.get("a")
      assert.deepStrictEqual([runs, fake.authentications()], [2, 2])
    }))

  it.live("a password that is rejected is read again, and the call succeeds if it has changed meanwhile", () =>
    Effect.gen(function*() {
      const fake = yield* server("second")
      const returned = ["first", "second"]
      const kv = yield* as(fake.endpoint, Effect.sync(() => Redacted.make(returned.shift() ?? "none")))
      yield* kv.put("a", "1")
      assert.deepStrictEqual(returned, [])
    }))

  it.live("a password that stays wrong fails the call at once with Unauthenticated, after one request", () =>
    Effect.gen(function*() {
      const fake = yield* server("right")
      const kv = yield* as(fake.endpoint, Effect.succeed(Redacted.make("hunter2")))
      const failure = yield* reason(kv.put("a", "1"))
      assert.strictEqual(failure._tag, "Unauthenticated")
      assert.notInclude(inspect(failure, { depth: 9 }), "hunter2")
      assert.strictEqual(fake.authentications(), 1)
    }))

  it.live("a failing effect is repeated until the deadline, the error names only the tag, and calls recover", () =>
    Effect.gen(function*() {
      const fake = yield* server("right")
      let runs = 0
      let outcome: Effect.Effect<Redacted.Redacted, VaultError> = Effect.fail(new VaultError({ message: "hunter2" }))
      const kv = yield* as(fake.endpoint, Effect.suspend(() => (runs++, outcome)), { deadline: "600 millis" })
      const failure = yield* reason(kv.put("a", "1"))
      assert.strictEqual(failure._tag, "Unavailable")
      assert.strictEqual(failure.outcome, "NotApplied")
      assert.match(failure.message, /the effect of auth\.password failed: VaultError/)
      assert.notInclude(inspect(failure, { depth: 9 }), "hunter2")
      assert.isAbove(runs, 1)
      outcome = Effect.die(new RangeError("hunter2"))
      assert.match((yield* reason(kv.get("a"))).message, /failed: RangeError/)
      outcome = Effect.interrupt
      assert.match((yield* reason(kv.get("a"))).message, /failed: it was interrupted/)
      outcome = Effect.succeed(Redacted.make("right"))
      yield* kv.put("a", "1")
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("an effect that hangs ends at the layer's deadline, is named by calls that wait for it, and runs again", () =>
    Effect.gen(function*() {
      const fake = yield* server("right")
      const runs: Array<number> = []
      const password = Effect.suspend(() => runs.push(1) === 1 ? Effect.never : Effect.succeed(Redacted.make("right")))
      const kv = yield* as(fake.endpoint, password, { deadline: "1 second" })
      const failure = yield* reason(Deadline.within(kv.get("a"), "300 millis"))
      assert.match(failure.message, /the effect of auth\.password has not returned/)
      yield* Effect.retry(kv.get("a"), { times: 5 })
      assert.strictEqual(runs.length, 2)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("the effect runs in the context in which the layer was built, and interrupting its first caller does not end it", () =>
    Effect.gen(function*() {
      const fake = yield* server("right")
      const callers: Array<string> = []
      const deadlines: Array<unknown> = []
      const began = Latch.makeUnsafe()
      const mayEnd = Latch.makeUnsafe()
      const password = Effect.gen(function*() {
        callers.push(yield* Caller)
        deadlines.push(yield* Deadline.Deadline)
        yield* began.open
        yield* mayEnd.await
        return Redacted.make("right")
      })
      const kv = yield* Effect.provideService(as(fake.endpoint, password), Caller, "builder")
      const calling = kv.put("a", "1").pipe(Effect.provideService(Caller, "caller"), Deadline.within("9 seconds"))
      const first = yield* Effect.forkChild(calling)
      yield* began.await
      const second = yield* Effect.forkChild(kv.get("a"))
      yield* Fiber.interrupt(first)
      yield* mayEnd.open
      yield* Fiber.join(second)
      assert.deepStrictEqual([callers, deadlines], [["builder"], [undefined]])
    }))
})

describe("a token request", () => {
  it.live("batched writes that wait for a token are known not to be applied, because they were not sent", () =>
    Effect.gen(function*() {
      let authentications = 0
      const fake = yield* FakeEtcd.make(({ method }) => {
        if (method === "Authenticate" && ++authentications === 1) {
          return { response: { header: FakeEtcd.header, token: "token" } }
        }
        return method === "Txn" ? { code: status.UNAUTHENTICATED, details: "etcdserver: invalid auth token" } : "hang"
      })
      const kv = yield* as(fake.endpoint, Redacted.make("right"), { deadline: "10 seconds" })
      // The first writes are sent alone, the others in a transaction, whose token is rejected.
      const writing = yield* Effect.forkChild(
        Effect.forEach(
          Array.from({ length: 20 }),
          (_, i) => Effect.map(reason(Deadline.within(kv.put(`${i}`, ""), "1 second")), ({ _tag }) => _tag),
          {
            concurrency: "unbounded"
          }
        )
      )
      yield* eventually(Effect.sync(() => authentications === 2))
      const sentAlone = fake.received.filter(({ method }) => method === "Put").length
      const failures = yield* Fiber.join(writing)
      assert.isAbove(failures.length, sentAlone)
      assert.strictEqual(failures.filter((tag) => tag === "Unavailable").length, failures.length - sentAlone)
    }))
})

describe("a password from an effect under a test clock", () => {
  it.effect("the effect keeps the clock of the layer's builder", () =>
    Effect.gen(function*() {
      const fake = yield* server("right")
      const times: Array<number> = []
      const password = Effect.map(Clock.currentTimeMillis, (now) => {
        times.push(now)
        return Redacted.make("right")
      })
      const kv = yield* as(fake.endpoint, password)
      yield* kv.put("a", "1")
      assert.deepStrictEqual(times, [0])
    }))
})

describe("a password that is changed on the server", () => {
  it.live(
    "a lock, a temporary key and watches survive a changed password, even if they must reconnect before the effect returns it",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make({ flags: { "auth-token-ttl": 3 } })
        yield* cluster.enableAuth({
          rootPassword: "root",
          users: [{ name: "app", password: "first", permissions: [{ permission: "readwrite", prefix: "" }] }]
        })
        const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
        let current = "first"
        const runs: Array<string> = []
        const password = Effect.sync(() => {
          runs.push(current)
          return Redacted.make(current)
        })
        const kv = yield* as(proxy.endpoint, password)
        const held = yield* hold(kv, "12 seconds")
        yield* kv.put("seen", "before")
        yield* cluster.etcdctl(["user", "passwd", "app", "--interactive=false"], { stdin: "second\n" })
        const before = runs.length
        yield* proxy.cut
        yield* eventually(Effect.sync(() => runs.length >= before + 4))
        const old = yield* as(proxy.endpoint, Redacted.make("first"))
        assert.strictEqual((yield* reason(old.get("seen")))._tag, "Unauthenticated")
        assert.strictEqual((yield* reason(Effect.scoped(kv.subscribe(KeyRange.key("seen")))))._tag, "Unauthenticated")
        current = "second"
        yield* held.renewed
        yield* kv.put("seen", "after")
        // A new watch needs a valid token, too.
        yield* Effect.scoped(kv.subscribe(KeyRange.key("other")))
        yield* held.check(["before", "after"])
      }),
    60_000
  )
})
