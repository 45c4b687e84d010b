/**
 * A program that uses every part of a client, closes it with calls in flight, and prints "closed". After that the
 * process must exit by itself.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as TempKey from "@effect-kv/core/TempKey"
import * as EtcdClient from "@effect-kv/etcd/EtcdClient"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  const etcd3 = yield* Effect.flatMap(EtcdClient.EtcdClient, ({ etcd3 }) => etcd3)
  yield* Effect.promise(() => etcd3.maintenance.status())
  yield* kv.put("a", "1")
  const { id } = yield* backendOf(kv).leaseGrant({ ttl: "60 seconds" })
  yield* backendOf(kv).leaseKeepAlive(id)
  yield* Effect.provideService(TempKey.make("temporary"), Kv.Kv, kv)
  yield* Effect.forkChild(Stream.runDrain(kv.watch(KeyRange.all)))
  yield* kv.subscribe(KeyRange.prefix("b"))
  yield* Effect.forkChild(Effect.forever(kv.put("a", "2")))
  yield* Effect.forkChild(Effect.forever(backendOf(kv).leaseKeepAlive(id)))
  yield* Effect.forkChild(Effect.forever(kv.range(KeyRange.all)))
  yield* Effect.sleep("200 millis")
})

await Effect.runPromise(
  Effect.scoped(program).pipe(Effect.provide(EtcdLayer.layer({ endpoints: [process.argv[2]!] })))
)
console.log("closed")
