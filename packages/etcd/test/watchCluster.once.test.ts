/**
 * Watches on three members, some of which fail. The status shows each interruption, and no event is lost.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { client } from "./support/client.ts"
import { timedWithoutStalls } from "./support/stalls.ts"
import { batchesUpTo, eventually, linesOf, untilStatus, watch, watcherCount } from "./support/watching.ts"

layer(EtcdCluster.layer({ members: 3 }), { excludeTestServices: true, timeout: "120 seconds" })((it) => {
  /** The member that holds the only watch, once the watches of the previous test are gone. */
  const holder = Effect.gen(function*() {
    const cluster = yield* EtcdCluster.EtcdCluster
    const holders = Effect.filter(cluster.members, (member) => Effect.map(watcherCount(member), (count) => count > 0))
    yield* eventually(Effect.map(holders, ({ length }) => length === 1))
    return (yield* holders)[0]!
  })

  /** Retries a write with an unknown outcome, so there may be several writes. Returns the last revision. */
  const put = (kv: Kv.Kv, key: string, value: string) =>
    Effect.map(Effect.retry(kv.put(key, value), { times: 20 }), ({ revision }) => revision)

  const allMembers = Effect.tap(EtcdCluster.EtcdCluster, (cluster) => cluster.startAll)

  describe("three members", () => {
    it.effect("the watches of a killed member continue on another member", () =>
      Effect.gen(function*() {
        const cluster = yield* allMembers
        const kv = yield* client({ endpoints: cluster.endpoints, deadline: "20 seconds" })
        const watcher = yield* watch(kv, KeyRange.prefix("one/"))
        const member = yield* holder
        yield* member.kill
        const revision = yield* put(kv, "one/a", "1")
        const [elapsed, batches] = yield* timedWithoutStalls(batchesUpTo(watcher, revision))
        assert.strictEqual(linesOf(batches).at(-1), `${revision} put one/a=1`)
        assert.isBelow(elapsed, 2000)
      }), 60_000)

    it.effect(
      "a watch reports within seconds that two of three members are stopped, and continues when they are back",
      () =>
        Effect.gen(function*() {
          const cluster = yield* allMembers
          const kv = yield* client({ endpoints: cluster.endpoints, deadline: "20 seconds" })
          const watcher = yield* watch(kv, KeyRange.prefix("two/"))
          const before = yield* put(kv, "two/a", "1")
          yield* batchesUpTo(watcher, before)
          const member = yield* holder
          const others = cluster.members.filter((other) => other !== member)
          yield* Effect.forEach(others, (other) => other.kill, { concurrency: 2 })
          const [elapsed] = yield* timedWithoutStalls(untilStatus(watcher, "Interrupted"))
          assert.isBelow(elapsed, 8000)
          yield* cluster.startAll
          const revision = yield* put(kv, "two/a", "2")
          const batches = yield* batchesUpTo({ ...watcher, revision: before }, revision)
          assert.strictEqual(linesOf(batches).at(-1), `${revision} put two/a=2`)
          yield* untilStatus(watcher, "Live")
        }),
      90_000
    )

    it.effect(
      "the watches of a member that falls silent with open connections continue on another member",
      () =>
        Effect.gen(function*() {
          const cluster = yield* allMembers
          const proxies = yield* Effect.forEach(cluster.endpoints, (target) => TcpProxy.make({ target }))
          const kv = yield* client({
            endpoints: proxies.map((proxy) => proxy.endpoint),
            keepAlive: { time: "5 seconds", timeout: "1 second" },
            deadline: "20 seconds"
          })
          const watcher = yield* watch(kv, KeyRange.prefix("three/"))
          const member = yield* holder
          const proxy = proxies.find((_, i) => cluster.members[i] === member)
          yield* proxy!.blackhole()
          const [silence] = yield* timedWithoutStalls(untilStatus(watcher, "Interrupted"))
          assert.isBelow(silence, 10_000)
          const revision = yield* put(kv, "three/a", "1")
          const [elapsed, batches] = yield* timedWithoutStalls(batchesUpTo(watcher, revision))
          assert.strictEqual(linesOf(batches).at(-1), `${revision} put three/a=1`)
          assert.isBelow(elapsed, 5000)
        }),
      60_000
    )

    it.effect(
      "a watch whose member stops responding while it is opened opens on another member within its deadline",
      () =>
        Effect.gen(function*() {
          const cluster = yield* allMembers
          const proxies = yield* Effect.forEach(cluster.endpoints, (target) => TcpProxy.make({ target }))
          const kv = yield* client({ endpoints: proxies.map((proxy) => proxy.endpoint), deadline: "15 seconds" })
          yield* watch(kv, KeyRange.prefix("four/"))
          const member = yield* holder
          const proxy = proxies.find((_, i) => cluster.members[i] === member)
          yield* proxy!.blackhole({ direction: "toClient" })
          const [elapsed] = yield* timedWithoutStalls(watch(kv, KeyRange.prefix("four/")))
          assert.isBelow(elapsed, 8000)
        }),
      60_000
    )
  })
})
