/**
 * A program that uses a client of an unreachable server, closes it while calls are waiting, and prints "closed". After
 * that the process must exit by itself.
 */
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as Effect from "effect/Effect"

const program = Effect.gen(function*() {
  const kv = yield* Kv.Kv
  yield* Effect.forkChild(Effect.exit(kv.put("a", "1")))
  yield* Effect.forkChild(Effect.exit(backendOf(kv).watch({ range: { _tag: "Key", key: "a" } })))
  yield* Effect.exit(kv.get("a"))
})

const options = { endpoints: [process.argv[2]!, "http://192.0.2.1:2379"], deadline: "500 millis" } as const

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(EtcdLayer.layer(options))))
console.log("closed")
