/**
 * The health of real clusters: what a readiness probe learns of each problem.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as KvHealth from "@effect-kv/core/KvHealth"
import * as Session from "@effect-kv/core/Session"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { client, reason } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { timedWithoutStalls } from "./support/stalls.ts"

const check = (kv: Kv.Kv, options?: KvHealth.Options) => Effect.provideService(KvHealth.check(options), Kv.Kv, kv)

const problems = (kv: Kv.Kv, options?: KvHealth.Options) =>
  Effect.map(Effect.flip(check(kv, options)), (error) => error.problems.map(({ problem }) => problem))

describe("the health of a cluster", { concurrent: true, timeout: 60_000 }, () => {
  it.live("a cluster is healthy, with the margin of the client's sessions, until it cannot be reached", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const proxy = yield* TcpProxy.make({ target: cluster.member.endpoint })
      const kv = yield* client({ endpoints: [proxy.endpoint] })
      const first = yield* check(kv)
      assert.isTrue(Option.isNone(first.margin))
      assert.isBelow(Duration.toMillis(first.latency), 2000)
      yield* Effect.provideService(Session.make(), Kv.Kv, kv)
      assert.isAbove(Option.getOrThrow((yield* check(kv)).margin), 0.8)
      assert.deepStrictEqual(yield* problems(kv, { minMargin: 0.95 }), ["LowMargin"])
      yield* proxy.blackhole()
      const [millis, found] = yield* timedWithoutStalls(problems(kv, { deadline: "500 millis" }))
      assert.deepStrictEqual(found, ["Unreachable"])
      assert.isBelow(millis, 1500)
    }))

  it.live("a cluster without a quorum is named so while a member responds", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make({ members: 3 })
      const kv = yield* client({ endpoints: cluster.endpoints })
      yield* check(kv)
      const [, second, third] = cluster.members
      yield* second!.kill
      yield* third!.kill
      assert.deepStrictEqual(yield* problems(kv, { deadline: "3 seconds" }), ["NoQuorum"])
    }))

  it.live("a cluster without a quorum that cannot issue tokens is named so, to a new client and to one with a token", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make({ members: 3 })
      yield* cluster.enableAuth({ rootPassword: "root", users: [] })
      const auth = { username: "root", password: Redacted.make("root") }
      const known = yield* client({ endpoints: cluster.endpoints, auth })
      yield* check(known)
      const [first, second, third] = cluster.members
      yield* Effect.forEach([second!, third!], ({ kill }) => kill, { concurrency: 2 })
      const fresh = yield* client({ endpoints: cluster.endpoints, auth })
      const both = Effect.all([problems(fresh), problems(known)], { concurrency: 2 })
      assert.deepStrictEqual(yield* both, [["NoQuorum"], ["NoQuorum"]])
      yield* first!.kill
      assert.deepStrictEqual(yield* both, [["Unreachable"], ["Unreachable"]])
    }))

  it.live("a member that rejects a token, and cannot issue another one, has no quorum", () =>
    Effect.gen(function*() {
      let hasLeader = true
      const fake = yield* FakeEtcd.make(({ method }) => {
        if (method === "Authenticate" && hasLeader) return { response: { header: FakeEtcd.header, token: "a" } }
        if (hasLeader) return { response: { header: FakeEtcd.header } }
        return method === "Status"
          ? { code: grpc.status.UNAUTHENTICATED, details: "etcdserver: invalid auth token" }
          : { code: grpc.status.UNAVAILABLE, details: "etcdserver: no leader" }
      })
      const auth = { username: "app", password: Redacted.make("app") }
      const kv = yield* client({ endpoints: [fake.endpoint], auth })
      yield* check(kv)
      hasLeader = false
      assert.deepStrictEqual(yield* problems(kv, { deadline: "300 millis" }), ["NoQuorum"])
    }))

  it.live("the alarm of a cluster without space is named, although reads succeed", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.make({ flags: { "quota-backend-bytes": 2_000_000 } })
      const kv = yield* client({ endpoints })
      // The server counts what it has written to its file, every 100 ms: how many puts that takes is not fixed.
      const fill = Effect.forever(kv.put("fill", new Uint8Array(50_000)))
      assert.strictEqual((yield* reason(fill))._tag, "QuotaExceeded")
      const error = yield* Effect.flip(check(kv))
      assert.deepStrictEqual(
        error.problems.map(({ problem }) => problem),
        ["Alarm"]
      )
      assert.include(error.message, "NOSPACE")
    }))

  it.live("a user without permission for the key that is read is healthy, and rejected credentials are named", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      yield* cluster.enableAuth({
        rootPassword: "root",
        users: [{ name: "app", password: "app", permissions: [{ permission: "readwrite", prefix: "app/" }] }]
      })
      const as = (password: string) =>
        client({ endpoints: cluster.endpoints, auth: { username: "app", password: Redacted.make(password) } })
      yield* check(yield* as("app"))
      const error = yield* Effect.flip(check(yield* as("wrong-password")))
      assert.deepStrictEqual(error.problems.map(({ problem }) => problem), ["Unauthenticated"])
      assert.notInclude(JSON.stringify(error), "wrong-password")
    }))
})
