/**
 * Limits that are shorter than the client's own deadline: what errors say of a server that is silent, has no leader or
 * wants another scheme.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import type * as LockError from "@effect-kv/core/LockError"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { client } from "./support/client.ts"

const timeoutOf = (kv: Kv.Kv, name: string) =>
  Effect.map(
    Effect.flip(
      Effect.provideService(DistLock.withDistLock(Effect.void, name, { acquireTimeout: "1 second" }), Kv.Kv, kv)
    ),
    (error) => error as LockError.LockTimeout
  )

describe("a lock that times out names the cause", () => {
  it.live("of a cluster without a leader", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make({ members: 3 })
      const kv = yield* client({ endpoints: [cluster.endpoints[0]!] })
      yield* kv.put("connected", "1")
      yield* cluster.members[1]!.kill
      yield* cluster.members[2]!.kill
      // Before it has noticed that there is none, it does not respond.
      yield* Effect.repeat(timeoutOf(kv, "no-leader"), {
        until: ({ message }) => message.includes("etcdserver: no leader")
      })
    }), 60_000)

  it.live("of a link that breaks, and not once the link works again", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const link = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
      const kv = yield* client({ endpoints: [link.endpoint] })
      yield* link.down
      assert.match((yield* timeoutOf(kv, "l")).message, /could not be reached: http:.*ECONNREFUSED/)
      yield* link.up
      yield* Effect.scoped(Effect.gen(function*() {
        const other = yield* client({ endpoints: cluster.endpoints })
        yield* Effect.provideService(DistLock.acquire("l"), Kv.Kv, other)
        const held = yield* timeoutOf(kv, "l")
        assert.deepStrictEqual(held.storeFailure, Option.none(), held.message)
        const waiting = yield* Effect.forkChild(timeoutOf(kv, "l"))
        yield* Effect.repeat(other.count(KeyRange.prefix("l/")), { until: (count) => count === 2 })
        // A later call has a response on that connection, so the request to enter has one, too.
        yield* kv.get("connected")
        yield* link.down
        const cut = yield* Fiber.join(waiting)
        assert.match(cut.message, /could not be reached: http:.*(ECONNREFUSED|clos|reset)/)
        yield* link.up
        yield* kv.get("connected")
      }))
      yield* link.blackhole()
      const silent = yield* timeoutOf(kv, "l")
      assert.match(silent.message, /could not be reached: http:.*(has not responded|silent|not connected yet)/)
      assert.notMatch(silent.message, /ECONNREFUSED/)
      yield* link.heal
    }), 60_000)
})
