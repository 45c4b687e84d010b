/**
 * Members on a real server: across outages that are longer than their time to live.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as Members from "@effect-kv/core/Members"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { client } from "./support/client.ts"
import { timedWithoutStalls } from "./support/stalls.ts"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

const until = <E>(what: string, condition: Effect.Effect<boolean, E>) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep("20 millis")
  }).pipe(
    Effect.timeoutOrElse({ duration: "40 seconds", orElse: () => Effect.die(new Error(`did not happen: ${what}`)) })
  )

const isListed = (kv: Kv.Kv) =>
  Effect.map(
    Effect.orElseSucceed(kv.getEntry("api/a"), () => Option.none()),
    Option.isSome
  )

/** How long it takes until the condition holds, in milliseconds. */
const timed = <E>(what: string, condition: Effect.Effect<boolean, E>) =>
  Effect.map(timedWithoutStalls(until(what, condition)), ([elapsed]) => elapsed)

/** Twice the promise, because the machine that runs the tests may be busy with others. */
const limitMillis = 4000

describe("members on etcd", () => {
  for (const how of ["refused", "silent"] as const) {
    it.live(
      `a member is back after outages of five times its time to live, in which connections are ${how}`,
      () =>
        Effect.scoped(Effect.gen(function*() {
          const cluster = yield* EtcdCluster.make()
          const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
          const direct = yield* client({ endpoints: cluster.endpoints })
          const kv = yield* client({ endpoints: [proxy.endpoint] })
          const member = yield* on(kv)(
            Members.join("api", { id: "a", value: "0", schema: Schema.String, ttl: "1 second" })
          )
          const view = yield* on(kv)(Members.view("api", Schema.String))
          for (const value of ["1", "2"]) {
            yield* how === "refused" ? proxy.down : proxy.blackhole()
            yield* until("the store has deleted it", Effect.map(isListed(direct), (listed) => !listed))
            const update = yield* Effect.forkScoped(member.update(value))
            yield* Effect.sleep("5 seconds")
            // A connection that goes silent is noticed after some seconds.
            yield* until("the view is stale", Effect.map(view.snapshot, ({ staleSince }) => Option.isSome(staleSince)))
            assert.isTrue((yield* view.snapshot).members.has("a"), "the last snapshot is shown")
            yield* how === "refused" ? proxy.up : proxy.heal
            const millis = yield* timed("the member is back", isListed(direct))
            assert.isBelow(millis, limitMillis)
            assert.deepStrictEqual(yield* direct.get("api/a"), Option.some(JSON.stringify(value)))
            yield* Fiber.join(update)
            yield* until(
              "the view is current",
              Effect.map(view.snapshot, ({ staleSince }) => Option.isNone(staleSince))
            )
          }
        })),
      120_000
    )
  }

  it.live(
    "a member is back after the server was down for five times its time to live",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make()
        const kv = yield* client({ endpoints: cluster.endpoints })
        const observer = yield* client({ endpoints: cluster.endpoints })
        const member = yield* on(kv)(
          Members.join("api", { id: "a", value: "before", schema: Schema.String, ttl: "1 second" })
        )
        yield* cluster.killAll
        const update = yield* Effect.forkScoped(member.update("after"))
        yield* Effect.sleep("5 seconds")
        assert.isTrue(Option.isNone(yield* member.lease))
        yield* cluster.startAll
        const millis = yield* timed("the member is back", Effect.map(member.lease, Option.isSome))
        assert.isBelow(millis, limitMillis)
        yield* Fiber.join(update)
        assert.deepStrictEqual(yield* observer.get("api/a"), Option.some(JSON.stringify("after")))
      })),
    120_000
  )
})
