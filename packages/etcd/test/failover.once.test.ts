/**
 * Failover between three members that are killed, stopped, paused or cut off under load. No read fails. Each write is
 * confirmed or Indeterminate, and the server's history shows that none was applied twice.
 */
import type { KvError } from "@effect-kv/core/KvError"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Ref from "effect/Ref"
import { client } from "./support/client.ts"
import { timedWithoutStalls } from "./support/stalls.ts"
import { eventually } from "./support/watching.ts"

interface Load {
  /** The outcome of each write, by its value. */
  readonly writes: ReadonlyMap<string, Exit.Exit<unknown, KvError>>
  readonly failedReads: ReadonlyArray<KvError>
  readonly reads: number
}

/** How many writes have to be confirmed in each test. */
const enough = 100

layer(EtcdCluster.layer({ members: 3 }), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  /** Runs reads and writes in several fibers until `fault` has ended, every fiber has made progress after it, and enough is confirmed. */
  const underLoad = Effect.fnUntraced(function*(
    endpoints: ReadonlyArray<string>,
    name: string,
    fault: Effect.Effect<void, unknown, EtcdCluster.EtcdCluster>
  ) {
    // Several clients, because each chooses its first endpoint at random.
    const clients = yield* Effect.forEach([1, 2, 3], () => client({ endpoints, deadline: "10 seconds" }))
    const stop = yield* Ref.make(false)
    const writes = new Map<string, Exit.Exit<unknown, KvError>>()
    const failedReads: Array<KvError> = []
    let reads = 0
    const until = Effect.map(Ref.get(stop), (stopped) => stopped)
    const fibers = yield* Effect.forEach(
      clients.flatMap((kv) => [kv, kv, kv, kv]),
      (kv, worker) =>
        Effect.forkChild(Effect.gen(function*() {
          for (let i = 0; !(yield* until); i++) {
            const value = `${name}/${worker}/${i}`
            writes.set(value, yield* Effect.exit(kv.put(`load/${worker}`, value)))
            const read = yield* Effect.result(kv.get(`load/${worker}`))
            reads += 1
            if (read._tag === "Failure") failedReads.push(read.failure)
          }
        }))
    )
    yield* Effect.sleep("500 millis")
    yield* fault
    yield* Effect.sleep("1 second")
    // A busy machine takes longer for as many.
    yield* Effect.repeat(Effect.sleep("50 millis"), {
      until: () => [...writes.values()].filter(Exit.isSuccess).length > enough
    })
    yield* Ref.set(stop, true)
    yield* Fiber.joinAll(fibers)
    return { writes, failedReads, reads } satisfies Load
  })

  const check = Effect.fnUntraced(function*(load: Load, from: bigint) {
    const cluster = yield* EtcdCluster.EtcdCluster
    assert.deepStrictEqual(load.failedReads.map((error) => error.message), [])
    const history = yield* cluster.watchFrom(from)
    const applied = new Map<string, number>()
    for (const { value } of yield* history.upTo(yield* cluster.revision)) {
      applied.set(value, (applied.get(value) ?? 0) + 1)
    }
    let confirmed = 0
    let appliedUnheard = 0
    for (const [value, exit] of load.writes) {
      const times = applied.get(value) ?? 0
      if (Exit.isSuccess(exit)) {
        confirmed += 1
        assert.strictEqual(times, 1, `${value} was confirmed and applied ${times} times`)
      } else {
        const error = Option.getOrThrow(Exit.findErrorOption(exit))
        assert.strictEqual(error.reason._tag, "Indeterminate", error.message)
        assert.isAtMost(times, 1, `${value} was applied ${times} times`)
        appliedUnheard += times
      }
    }
    assert.isAbove(confirmed, enough)
    return appliedUnheard
  })

  const faults: ReadonlyArray<readonly [string, Effect.Effect<void, unknown, EtcdCluster.EtcdCluster>]> = [
    [
      "each member is killed and started again, one after the other",
      Effect.flatMap(EtcdCluster.EtcdCluster, (cluster) =>
        Effect.forEach(
          cluster.members,
          (member) => Effect.andThen(member.kill, Effect.andThen(Effect.sleep("500 millis"), member.start)),
          { discard: true }
        ))
    ],
    [
      "the leader is killed",
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const leader = yield* cluster.leader
        yield* leader.kill
        yield* Effect.sleep("2 seconds")
        yield* leader.start
      })
    ],
    [
      "the leader shuts down gracefully",
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const leader = yield* cluster.leader
        yield* leader.stop
        yield* leader.start
      })
    ],
    [
      "the leadership moves to another member",
      Effect.flatMap(
        EtcdCluster.EtcdCluster,
        (cluster) => Effect.andThen(Effect.asVoid(cluster.moveLeader()), Effect.asVoid(cluster.moveLeader()))
      )
    ],
    [
      "a member is paused",
      Effect.flatMap(EtcdCluster.EtcdCluster, (cluster) =>
        Effect.gen(function*() {
          const leader = yield* cluster.leader
          yield* Effect.acquireUseRelease(leader.pause, () => Effect.sleep("3 seconds"), () => leader.resume)
        }))
    ]
  ]

  for (const [title, fault] of faults) {
    it.effect(`no read fails and no write is applied twice while ${title}`, () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        yield* cluster.awaitHealthy
        const from = (yield* cluster.revision) + 1n
        const load = yield* underLoad(cluster.endpoints, title, fault)
        yield* cluster.startAll
        yield* check(load, from)
      }), 60_000)
  }

  it.effect(
    "no read fails and no write is applied twice while a member is cut off from its clients, twice",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        yield* cluster.awaitHealthy
        const from = (yield* cluster.revision) + 1n
        const proxies = yield* Effect.forEach(cluster.endpoints, (target) => TcpProxy.make({ target }))
        const cutOff = Effect.forEach(
          proxies,
          (proxy) => Effect.andThen(proxy.blackhole(), Effect.andThen(Effect.sleep("1500 millis"), proxy.heal))
        )
        const load = yield* underLoad(
          proxies.map(({ endpoint }) => endpoint),
          "cut",
          Effect.asVoid(cutOff)
        )
        yield* check(load, from)
      }),
    60_000
  )

  it.effect(
    "a write that a member applied just before it was killed is not applied again",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        yield* cluster.awaitHealthy
        const from = (yield* cluster.revision) + 1n
        const proxies = yield* Effect.forEach(cluster.endpoints, (target) => TcpProxy.make({ target }))
        const fault = Effect.forEach(cluster.members, (member, i) =>
          Effect.gen(function*() {
            const proxy = proxies[i]!
            yield* proxy.dropResponses
            const { bytesToServer } = yield* proxy.stats
            yield* Effect.sleep("300 millis")
            // On a busy machine it takes longer until the member has requests without a response, if a client uses it.
            const hasRequests = Effect.map(proxy.stats, (stats) => stats.bytesToServer > bytesToServer)
            yield* Effect.timeoutOption(eventually(hasRequests), "5 seconds")
            yield* member.kill
            yield* proxies[i]!.heal
            yield* Effect.sleep("500 millis")
            yield* member.start
          }), { discard: true })
        const load = yield* underLoad(proxies.map(({ endpoint }) => endpoint), "unheard", fault)
        assert.isAbove(yield* check(load, from), 0)
      }),
    60_000
  )

  it.effect("a client with one live member among dead ones completes calls immediately", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      yield* cluster.awaitHealthy
      const endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2", cluster.endpoints[0]!]
      for (let i = 0; i < 6; i++) {
        const kv = yield* client({ endpoints })
        const [elapsed] = yield* timedWithoutStalls(Effect.andThen(kv.put("a", "1"), kv.get("a")))
        assert.isBelow(elapsed, 1000)
      }
    }))

  it.effect(
    "without a quorum, reads and writes are Unavailable and not applied, and serializable reads succeed",
    () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        yield* cluster.awaitHealthy
        const kv = yield* client({ endpoints: cluster.endpoints, deadline: "3 seconds" })
        yield* kv.put("quorum", "1")
        const [first, ...others] = cluster.members
        yield* Effect.forEach(others, (member) => member.kill)
        const alone = yield* client({ endpoints: [first!.endpoint], deadline: "3 seconds" })
        // Until the member notices that it has no quorum it accepts writes. Their outcome is unknown: they may be
        // applied later.
        const rejected: Array<string> = []
        for (let i = 2; rejected.length < 3; i++) {
          const error = yield* Effect.flip(alone.put("quorum", `${i}`))
          if (error.outcome === "NotApplied") {
            assert.strictEqual(error.reason._tag, "Unavailable")
            rejected.push(`${i}`)
          } else assert.strictEqual(error.reason._tag, "Indeterminate")
        }
        const [elapsed, read] = yield* timedWithoutStalls(Effect.flip(alone.get("quorum")))
        assert.strictEqual(read.reason._tag, "Unavailable")
        assert.isBelow(elapsed, 4000)
        assert.deepStrictEqual(yield* kv.get("quorum", { serializable: true }), Option.some("1"))
        yield* cluster.startAll
        const value = Option.getOrThrow(yield* Effect.retry(kv.get("quorum"), { times: 5 }))
        assert.isFalse(rejected.includes(value), "a rejected write was not applied")
      }),
    60_000
  )

  it.effect("a token is valid on every member, so a client continues on another member", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make({ members: 3, flags: { "auth-token-ttl": 60 } })
      yield* cluster.enableAuth({ rootPassword: "root" })
      const auth = { username: "root", password: Redacted.make("root") }
      const kv = yield* client({ endpoints: cluster.endpoints, auth, deadline: "10 seconds" })
      for (const member of cluster.members) {
        yield* kv.put("a", member.name)
        yield* member.kill
        yield* Effect.retry(kv.put("a", `${member.name} is gone`), { times: 3 })
        yield* member.start
      }
    }), 60_000)
})
