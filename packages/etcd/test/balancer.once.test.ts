/**
 * One address that leads to several members, as that of a TCP load balancer: a connection stays with the member that it was
 * opened to, so that the client has to open another when that member cannot serve.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { client } from "./support/client.ts"
import { timedWithoutStalls, unlessStalled } from "./support/stalls.ts"

layer(EtcdCluster.layer({ members: 3, isolatable: true }), { excludeTestServices: true, timeout: "60 seconds" })(
  (it) => {
    /** A client whose only address leads to `member`, and from `move` on, for new connections, to another. */
    const setUp = Effect.fnUntraced(function*(member: EtcdCluster.Member) {
      const cluster = yield* EtcdCluster.EtcdCluster
      yield* cluster.awaitHealthy
      const balancer = yield* TcpProxy.make({ target: member.endpoint })
      const other = cluster.members.find((candidate) => candidate !== member)!
      return {
        cluster,
        balancer,
        kv: yield* client({ endpoints: [balancer.endpoint] }),
        direct: yield* client({ endpoints: [other.endpoint] }),
        move: balancer.retarget(other.endpoint)
      }
    })

    const isolated = <A, E, R>(member: EtcdCluster.Member, body: Effect.Effect<A, E, R>) =>
      Effect.flatMap(EtcdCluster.EtcdCluster, (cluster) =>
        Effect.acquireUseRelease(
          cluster.isolate(member),
          () => body,
          () => Effect.orDie(Effect.andThen(cluster.rejoin(member), member.awaitHealthy))
        ))

    for (const which of ["a follower", "the leader"] as const) {
      const pick = Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const leader = yield* cluster.leader
        return which === "the leader" ? leader : cluster.members.find((member) => member !== leader)!
      })

      it.effect(
        `Behind one address, calls move to another member when ${which} is cut off from its peers`,
        () =>
          Effect.gen(function*() {
            const member = yield* pick
            const { kv, move } = yield* setUp(member)
            yield* kv.put("moved", "1")
            yield* move
            yield* isolated(
              member,
              Effect.gen(function*() {
                // A leader takes writes until it notices, which then end as Indeterminate.
                const read = kv.get("moved")
                const [elapsed, value] = yield* timedWithoutStalls(Effect.retry(read, { times: 3 }))
                assert.deepStrictEqual(value, Option.some("1"))
                assert.isBelow(elapsed, 10_000)
                yield* kv.put("moved", "2")
                const [next] = yield* timedWithoutStalls(kv.put("moved", "3"))
                assert.isBelow(next, 2000)
              })
            )
          }),
        60_000
      )

      it.effect(
        `Behind one address, a watch and a lock move to another member when ${which} is cut off from its peers`,
        () =>
          Effect.gen(function*() {
            const member = yield* pick
            const { direct, kv, move } = yield* setUp(member)
            const watcher = yield* backendOf(kv).watch({ range: KeyRange.key("watched") })
            const { revision: before } = yield* kv.put("watched", "1")
            yield* move
            const held = yield* Effect.forkChild(
              Effect.provideService(DistLock.withDistLock(Effect.sleep("12 seconds"), `kept/${which}`), Kv.Kv, kv)
            )
            yield* Effect.repeat(Effect.provideService(DistLock.holder(`kept/${which}`), Kv.Kv, direct), {
              until: Option.isSome
            })
            yield* isolated(
              member,
              Effect.gen(function*() {
                const { revision } = yield* Effect.retry(direct.put("watched", "2"), { times: 3 })
                const seen = new Set<bigint>()
                while (!seen.has(revision)) {
                  for (const batch of yield* watcher.take) seen.add(batch.revision)
                }
                assert.include([...seen], before)
                yield* Fiber.join(held)
              })
            )
          }).pipe(Effect.scoped, unlessStalled(10_000)),
        60_000
      )
    }

    it.effect("Behind one address, a cluster without a leader gets few new connections", () =>
      Effect.gen(function*() {
        const cluster = yield* EtcdCluster.EtcdCluster
        const { balancer, kv } = yield* setUp(cluster.member)
        yield* kv.get("few")
        const { opened } = yield* balancer.stats
        yield* isolated(
          cluster.member,
          Effect.repeat(Effect.exit(kv.get("few")), { times: 2 })
        )
        assert.isBelow((yield* balancer.stats).opened - opened, 8)
      }), 60_000)
  }
)
