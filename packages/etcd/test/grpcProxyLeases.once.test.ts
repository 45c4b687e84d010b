/**
 * Leases behind `etcd grpc-proxy`, of the newest version only: the proxies of etcd 3.6 and 3.5 exit after a few renewals whose
 * streams have ended.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as RangeView from "@effect-kv/core/RangeView"
import { EtcdCluster, GrpcProxy } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { client } from "./support/client.ts"

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  it.effect("Behind etcd grpc-proxy, leases are kept, a lock passes from one client to the next, and a view follows", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const proxy = yield* GrpcProxy.make({ endpoints })
      const kv = yield* client({ endpoints: [proxy.endpoint] })
      const other = yield* client({ endpoints: [proxy.endpoint] })
      const view = yield* Effect.provideService(RangeView.make(KeyRange.prefix("held/")), Kv.Kv, other)
      const order: Array<string> = []
      const hold = (name: string, kv: Kv.Kv, millis: number) =>
        DistLock.withDistLock(
          Effect.andThen(
            kv.put("held/by", name),
            Effect.andThen(Effect.sync(() => order.push(name)), Effect.sleep(millis))
          ),
          "behind-a-proxy",
          { ttl: "3 seconds" }
        ).pipe(Effect.provideService(Kv.Kv, kv))
      // Longer than the TTL, so that it must have been renewed.
      const first = yield* Effect.forkChild(hold("first", kv, 5000))
      yield* view.waitUntil(({ entries }) => entries.get("held/by")?.lossyText === "first")
      yield* hold("second", other, 0)
      yield* view.waitUntil(({ entries }) => entries.get("held/by")?.lossyText === "second")
      assert.deepStrictEqual(order, ["first", "second"])
      assert.isTrue(first.pollUnsafe() !== undefined)
    }))
})
