/**
 * How tokens are got and replaced, against a server that does what the test says.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import { assert, describe, it } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as tokens from "../src/internal/rpc/tokens.ts"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"

const auth = { username: "app", password: Redacted.make("secret") }
const putAnswer = { answer: { header: FakeEtcd.header } }
const invalidToken = { code: status.UNAUTHENTICATED, details: "etcdserver: invalid auth token" }
const oldRevision = { code: status.INVALID_ARGUMENT, details: "etcdserver: revision of auth store is old" }

const token = (text: string): FakeEtcd.Reply => ({ answer: { header: FakeEtcd.header, token: text } })

const count = (fake: FakeEtcd.FakeEtcd, method: string): number =>
  fake.received.filter((received) => received.method === method).length

describe("tokens", () => {
  it.live("go with every request, and the password with none but the one that gets them", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make(({ method }) => method === "Authenticate" ? token("t1") : putAnswer)
      const kv = yield* client({ endpoints: [fake.endpoint], auth })
      yield* kv.put("a", "1")
      assert.deepStrictEqual(fake.received.map(({ metadata, method }) => [method, metadata.get("token")]), [
        ["Authenticate", []],
        ["Put", ["t1"]]
      ])
    }))

  it.live("that the server refuses for ever end a call, write or read, after a few new ones", () =>
    Effect.gen(function*() {
      for (const refusal of [invalidToken, oldRevision]) {
        const fake = yield* FakeEtcd.make(({ method }) => method === "Authenticate" ? token("t") : refusal)
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

  it.live("are replaced once when many calls find theirs refused, and each write is sent once with a good one", () =>
    Effect.gen(function*() {
      let issued = 0
      const fake = yield* FakeEtcd.make(({ metadata, method }) => {
        if (method === "Authenticate") return token(`t${++issued}`)
        return metadata.get("token")[0] === "t1" ? invalidToken : putAnswer
      })
      const kv = yield* client({ endpoints: [fake.endpoint], auth, batching: false })
      yield* Effect.forEach(Array.from({ length: 50 }), () => kv.put("a", "1"), { concurrency: "unbounded" })
      assert.strictEqual(issued, 2)
      assert.strictEqual(count(fake, "Put"), 100)
    }))

  it.live("do not end with the deadline, or the interruption, of the call that was first to wait for one", () =>
    Effect.gen(function*() {
      const fake = yield* FakeEtcd.make()
      const kv = yield* client({ endpoints: [fake.endpoint], auth, deadline: "10 seconds" })
      const impatient = yield* Effect.forkChild(reason(Deadline.within(kv.put("a", "1"), "100 millis")))
      const interrupted = yield* Effect.forkChild(kv.put("a", "1"))
      const patient = yield* Effect.forkChild(kv.put("a", "1"))
      yield* fake.awaitReceived(1)
      yield* Fiber.interrupt(interrupted)
      const failure = yield* Fiber.join(impatient)
      assert.strictEqual(failure._tag, "Unavailable")
      assert.include(failure.message, "token")
      assert.strictEqual(count(fake, "Authenticate"), 1)
      // The one request for a token goes on. It is refused once, and tried again.
      fake.reply = ({ method }) => method === "Authenticate" ? token("t") : putAnswer
      yield* fake.drop
      yield* Fiber.join(patient)
      assert.strictEqual(count(fake, "Put"), 1)
    }))

  it.live("are there for others, at whatever step the call that was first to ask is interrupted", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      // A fiber can be interrupted where it yields, which it does after so many steps.
      for (let steps = 2; steps < 20; steps++) {
        for (let yields = 0; yields < 4; yields++) {
          const source = tokens.make(Effect.succeed("t"), scope)
          const first = yield* Effect.forkChild(Effect.provideService(source.get, References.MaxOpsBeforeYield, steps))
          for (let i = 0; i < yields; i++) yield* Effect.yieldNow
          yield* Fiber.interrupt(first)
          const token = yield* Effect.timeoutOption(source.get, "1 second")
          assert.deepStrictEqual(token, Option.some("t"), `${steps} steps, ${yields} yields`)
        }
      }
    }))

  it.live("are not waited for once the scope is closed in which they would be got", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const source = tokens.make(Effect.never, scope)
      const waiting = yield* Effect.forkChild(reason(source.get))
      yield* Effect.yieldNow
      yield* Scope.close(scope, Exit.void)
      const before = yield* Effect.timeout(Fiber.join(waiting), "1 second")
      const after = yield* Effect.timeout(reason(source.get), "1 second")
      assert.deepStrictEqual([before._tag, after._tag], ["Closed", "Closed"])
    }))

  it.live("are asked for again when nobody could be reached to give one", () =>
    Effect.gen(function*() {
      let asked = 0
      const fake = yield* FakeEtcd.make(({ method }) => {
        if (method !== "Authenticate") return putAnswer
        return ++asked < 3 ? { code: status.UNAVAILABLE, details: "etcdserver: no leader" } : token("t")
      })
      const kv = yield* client({ endpoints: [fake.endpoint], auth })
      yield* kv.put("a", "1")
      assert.strictEqual(asked, 3)
    }))

  it.live("are not needed where authentication is disabled", () =>
    Effect.gen(function*() {
      const disabled = { code: status.FAILED_PRECONDITION, details: "etcdserver: authentication is not enabled" }
      const fake = yield* FakeEtcd.make(({ method }) => method === "Authenticate" ? disabled : putAnswer)
      const kv = yield* client({ endpoints: [fake.endpoint], auth })
      yield* kv.put("a", "1")
      yield* kv.put("a", "2")
      assert.strictEqual(count(fake, "Authenticate"), 1)
      assert.deepStrictEqual(fake.received.at(-1)!.metadata.get("token"), [])
    }))
})
