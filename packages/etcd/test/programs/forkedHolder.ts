/**
 * A program whose forked fiber holds a lock. The fiber's finalizer takes half a second and then writes. The program
 * prints "held" once it holds the lock, and is meant to be ended by SIGTERM.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Kv from "@effect-kv/core/Kv"
import * as EtcdLayer from "@effect-kv/etcd/EtcdLayer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"

const [, , endpoint, name, how] = process.argv

const holder = Effect.gen(function*() {
  const fenced = yield* Kv.Kv
  const cleanUp = Effect.andThen(Effect.sleep("500 millis"), Effect.orDie(fenced.put(`${name}.result`, "written")))
  yield* Effect.ensuring(Effect.andThen(Effect.sync(() => console.log("held")), Effect.never), cleanUp)
}).pipe(DistLock.withDistLock(name!, { ttl: "5 seconds" }), Effect.ignore)

const main = Effect.gen(function*() {
  yield* (how === "forkDetach" ? Effect.forkDetach(holder) : Effect.forkChild(holder))
  return yield* Effect.never
})

NodeRuntime.runMain(Effect.provide(main, EtcdLayer.layer({ endpoints: [endpoint!] })))
