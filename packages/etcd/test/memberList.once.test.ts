/**
 * Endpoints from the cluster's member list: which addresses are used, and how the list is followed.
 */
import type * as Kv from "@effect-kv/core/Kv"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import { status } from "@grpc/grpc-js"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as connection from "../src/internal/rpc/connection.ts"
import { usableUrls } from "../src/internal/rpc/members.ts"
import * as settings from "../src/internal/settings.ts"
import { client } from "./support/client.ts"
import * as FakeEtcd from "./support/FakeEtcd.ts"
import { hold } from "./support/holdings.ts"
import * as logs from "./support/logs.ts"
import { eventually } from "./support/watching.ts"

const member = (...clientUrls: ReadonlyArray<string>) => ({ clientUrls, isLearner: false })

describe("the addresses of a member list that a client may use", () => {
  const cases: ReadonlyArray<
    readonly [string, listed: ReadonlyArray<string>, given: ReadonlyArray<string>, usable: ReadonlyArray<string>]
  > = [
    ["each URL of each member", ["http://a:1", "http://b:1"], ["http://c:1"], ["http://a:1", "http://b:1"]],
    ["each URL once, without those given", ["http://A:1/", "http://a:1", "http://b:1"], ["http://b:1"], ["http://a:1"]],
    ["no http URL beside https endpoints", ["http://a:1", "https://b:1"], ["https://c:1"], ["https://b:1"]],
    ["no https URL beside http endpoints", ["http://a:1", "https://b:1"], ["http://c:1"], ["http://a:1"]],
    ["no invalid URL", ["http://a", "b:1", "", "http://u@c:1", "http://d:1/x"], ["http://e:1"], []],
    [
      "no local address",
      [
        "http://localhost:1",
        "http://a.localhost:1",
        "http://127.0.0.1:1",
        "http://127.9.9.9:1",
        "http://0.0.0.0:1",
        "http://[::1]:1",
        "http://[::]:1",
        "http://[0:0:0:0:0:0:0:1]:1",
        "http://[::ffff:127.0.0.1]:1",
        "unix:///etcd.sock",
        "http://[::2]:1",
        "http://128.0.0.1:1",
        "http://localhost.example:1"
      ],
      ["http://10.0.0.1:1"],
      ["http://[::2]:1", "http://128.0.0.1:1", "http://localhost.example:1"]
    ],
    ["local addresses beside one", ["http://localhost:2", "http://a:1"], ["http://[::1]:1"], [
      "http://localhost:2",
      "http://a:1"
    ]],
    ["local addresses beside a Unix socket", ["http://127.0.0.1:2"], ["unix:///etcd.sock"], ["http://127.0.0.1:2"]]
  ]
  for (const [title, listed, given, usable] of cases) {
    it(`are: ${title}`, () => {
      assert.deepStrictEqual(usableUrls(listed.map((url) => member(url)), given), usable)
      assert.deepStrictEqual(usableUrls([member(...listed)], given), usable)
    })
  }

  it("are none of a learner or of a member that has not started", () => {
    const learner = { clientUrls: ["http://a:1"], isLearner: true }
    assert.deepStrictEqual(usableUrls([learner, member()], ["http://b:1"]), [])
  })
})

/** A connection that reads the member list at this interval. */
const following = Effect.fnUntraced(function*(endpoints: ReadonlyArray<string>, interval: Duration.Input) {
  const { collect, lines } = logs.make()
  const made = yield* settings.make({ endpoints, followMembers: true })
  const membersInterval = Duration.fromInputUnsafe(interval)
  return { lines, to: yield* collect(connection.make({ ...made, membersInterval })) }
})

/** Any call. */
const use = (to: connection.Connection) =>
  to.run({ name: "use", policy: "read", hasLeader: false, send: () => Effect.void, finish: Effect.succeed })

const untilAddresses = (to: connection.Connection, expected: ReadonlyArray<string>) =>
  eventually(Effect.sync(() => [...to.addresses()].sort().join() === [...expected].sort().join()))

/** A member of the cluster with this id, whose member list has these URLs. */
const listing = (clusterId: string, urls: () => ReadonlyArray<string>) =>
  FakeEtcd.make(({ method }) => ({
    response: {
      header: { ...FakeEtcd.header, cluster_id: clusterId },
      ...(method === "MemberList"
        ? { members: urls().map((url, i) => ({ ID: `${i + 1}`, name: `m${i}`, clientURLs: [url] })) }
        : {})
    }
  }))

describe("following a member list", () => {
  it.live(
    "only addresses that respond as members of the same cluster are used, and those given always are",
    () =>
      Effect.gen(function*() {
        const member = yield* listing("1", () => [])
        const stranger = yield* listing("2", () => [])
        const proxy = yield* listing("0", () => [])
        let urls: ReadonlyArray<string> = []
        const given = yield* listing("1", () => urls)
        const { to } = yield* following([given.endpoint], "50 millis")
        const listed = (): number => given.received.filter(({ method }) => method === "MemberList").length
        const untilListed = (more: number) =>
          Effect.suspend(() => {
            const enough = listed() + more
            return eventually(Effect.sync(() => listed() >= enough))
          })
        yield* Effect.sleep("100 millis")
        assert.strictEqual(listed(), 0, "nothing is read before the first call")
        yield* use(to)
        urls = [stranger.endpoint, "http://127.0.0.1:1", proxy.endpoint, member.endpoint]
        yield* untilAddresses(to, [given.endpoint, member.endpoint])
        // Neither an empty list nor one without the given endpoint removes it.
        urls = []
        yield* untilListed(2)
        assert.deepStrictEqual(to.addresses(), [given.endpoint, member.endpoint])
        urls = [stranger.endpoint]
        yield* untilAddresses(to, [given.endpoint])
      }),
    60_000
  )

  it.live(
    "members of a store that was replaced are not used, and those of the new store are",
    () =>
      Effect.gen(function*() {
        const before = yield* listing("1", () => [])
        const after = yield* listing("2", () => [])
        const given = yield* listing("1", () => [before.endpoint])
        const { to } = yield* following([given.endpoint], "1 hour")
        yield* use(to)
        yield* untilAddresses(to, [given.endpoint, before.endpoint])
        const header = { clusterId: 2n, memberId: 1n, revision: 1n }
        given.reply = () => ({
          response: {
            header: { ...FakeEtcd.header, cluster_id: "2" },
            members: [{ ID: "1", name: "m", clientURLs: [after.endpoint] }]
          }
        })
        before.reply = () => ({ code: status.UNAVAILABLE, details: "gone" })
        to.store.identity.observe(header, to.store.identity.sent(), given.endpoint, "Member")
        yield* untilAddresses(to, [given.endpoint, after.endpoint])
      }),
    60_000
  )

  it.live(
    "a list that cannot be read changes nothing, and is logged as one warning until it can be read again",
    () =>
      Effect.gen(function*() {
        const member = yield* listing("1", () => [])
        const given = yield* listing("1", () => [member.endpoint])
        const { reply } = given
        const { lines, to } = yield* following([given.endpoint], "50 millis")
        yield* use(to)
        yield* untilAddresses(to, [given.endpoint, member.endpoint])
        for (let round = 1; round <= 2; round++) {
          given.reply = () => ({ code: status.PERMISSION_DENIED, details: "etcdserver: permission denied" })
          member.reply = given.reply
          const enough = given.received.length + 3
          yield* eventually(Effect.sync(() => given.received.length >= enough))
          assert.deepStrictEqual([...to.addresses()].sort(), [given.endpoint, member.endpoint].sort())
          const warnings = lines.filter(({ message }) => message === "effect-kv: the member list cannot be read")
          assert.strictEqual(warnings.length, round)
          assert.match(String(warnings[0]!.annotations["reason"]), /permission denied/)
          given.reply = reply
          const again = given.received.length + 2
          yield* eventually(Effect.sync(() => given.received.length >= again))
        }
      }),
    60_000
  )

  it.live("an added member is used, and a removed one is not", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make({ members: 3 })
      const [first, second, third] = cluster.endpoints
      const { to } = yield* following([first!], "200 millis")
      yield* use(to)
      yield* untilAddresses(to, cluster.endpoints)
      const added = yield* cluster.memberAdd
      yield* untilAddresses(to, [...cluster.endpoints, added.endpoint])
      yield* cluster.memberRemove(cluster.members[1]!)
      yield* untilAddresses(to, [first!, third!, added.endpoint])
      assert.notInclude(to.addresses(), second)
    }), 60_000)

  it.live(
    "a client of one endpoint continues on the other members, with its lock and its watch, when that one is gone",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make({ members: 3 })
        yield* cluster.enableAuth({
          rootPassword: "root",
          users: [{ name: "app", password: "pw", permissions: [{ permission: "readwrite", prefix: "" }] }]
        })
        const [first] = cluster.members
        const { collect, lines } = logs.make()
        const auth = { username: "app", password: Redacted.make("pw") }
        const kv: Kv.Kv = yield* collect(client({ endpoints: [first!.endpoint], followMembers: true, auth }))
        const held = yield* hold(kv, "15 seconds")
        yield* kv.put("seen", "before")
        yield* eventually(Effect.sync(() => logs.lastEndpoints(lines)?.length === 3))
        assert.deepStrictEqual([...logs.lastEndpoints(lines)!].sort(), [...cluster.endpoints].sort())
        yield* first!.kill
        yield* Effect.retry(kv.put("seen", "after"), { times: 5 })
        yield* held.check(["before", "after"])
      }),
    60_000
  )

  it.live(
    "when an endpoint fails, the list is read again without waiting for the interval",
    () =>
      Effect.gen(function*() {
        const urls: Array<string> = []
        const a = yield* listing("1", () => urls)
        const b = yield* listing("1", () => urls)
        const { to } = yield* following([a.endpoint, b.endpoint], "1 hour")
        yield* use(to)
        yield* eventually(Effect.sync(() => a.received.length + b.received.length === 1))
        const c = yield* listing("1", () => urls)
        urls.push(c.endpoint)
        to.reportStreamFailure(a.endpoint, {
          _tag: "GrpcFailure",
          code: status.UNAVAILABLE,
          details: "the connection broke",
          delivery: "Sent"
        })
        yield* untilAddresses(to, [a.endpoint, b.endpoint, c.endpoint])
      }),
    60_000
  )

  it.live("without the option, the list is not read", () =>
    Effect.gen(function*() {
      const given = yield* listing("1", () => [])
      const to = yield* connection.make(yield* settings.make({ endpoints: [given.endpoint] }))
      yield* use(to)
      assert.deepStrictEqual(given.received, [])
    }))
})
