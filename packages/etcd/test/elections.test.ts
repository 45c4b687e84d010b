/**
 * Elections on a real server: across restarts of all members, and across tokens that expire.
 */
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { client } from "./support/client.ts"

const on = (kv: Kv.Kv) => Effect.provideService(Kv.Kv, kv)

const until = <E>(what: string, condition: Effect.Effect<boolean, E>) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep("50 millis")
  }).pipe(
    Effect.timeoutOrElse({ duration: "40 seconds", orElse: () => Effect.die(new Error(`did not happen: ${what}`)) })
  )

describe("elections on etcd", () => {
  it.live(
    "after a restart of all members one candidate leads, all contend, tokens have grown, and observers see the leader",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make({ members: 3 })
        const running = new Set<string>()
        const clients: Array<Kv.Kv> = []
        for (const id of ["a", "b", "c"]) {
          const kv = yield* client({ endpoints: cluster.endpoints })
          clients.push(kv)
          yield* Election.singleton(
            "e",
            () =>
              Effect.acquireUseRelease(
                Effect.sync(() => running.add(id)),
                () => Effect.never,
                () => Effect.sync(() => running.delete(id))
              ),
            { value: id, ttl: "2 seconds" }
          ).pipe(on(kv), Effect.forkScoped)
        }
        const kv = clients[0]!
        const oneLeads = until(
          "one leads and all contend",
          Effect.map(
            Effect.orElseSucceed(on(kv)(Election.candidates("e")), () => []),
            (all) => all.length === 3 && running.size === 1 && running.has(all[0]!.value)
          )
        )
        yield* oneLeads
        const seen: Array<Option.Option<Election.Candidate>> = []
        const observing = yield* Election.observe("e").pipe(
          Stream.runForEach((leader) => Effect.sync(() => seen.push(leader))),
          on(yield* client({ endpoints: cluster.endpoints })),
          Effect.forkScoped
        )
        yield* until("the observer sees the first leader", Effect.sync(() => seen.length > 0))
        for (let i = 0; i < 2; i++) {
          yield* cluster.killAll
          yield* cluster.startAll
          yield* oneLeads
          yield* until(
            "the observer sees the leader",
            Effect.map(
              on(kv)(Election.leader("e")),
              (leader) =>
                Option.isSome(leader) && Option.exists(seen.at(-1)!, ({ token }) => token === leader.value.token)
            )
          )
        }
        assert.isUndefined(observing.pollUnsafe(), "the stream continues")
        const tokens = seen.flatMap((leader) => Option.isSome(leader) ? [leader.value.token] : [])
        assert.deepStrictEqual(tokens, tokens.toSorted((a, b) => Number(a - b)))
      })),
    120_000
  )

  it.live(
    "a candidate that waits for longer than its token lives leads in its turn",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make({ flags: { "auth-token-ttl": 2 } })
        yield* cluster.enableAuth({
          rootPassword: "root",
          users: [{ name: "app", password: "secret", permissions: [{ permission: "readwrite", prefix: "app/" }] }]
        })
        const as = client({
          endpoints: cluster.endpoints,
          auth: { username: "app", password: Redacted.make("secret") }
        })
        const leadership = yield* on(yield* as)(Election.campaign("app/e", { value: "first" }))
        const waiter = yield* as
        const waiting = yield* Effect.forkScoped(
          on(waiter)(Election.use("app/e", ({ token }) => Effect.succeed(token), { value: "second" }))
        )
        yield* until(
          "both are candidates",
          Effect.map(on(waiter)(Election.candidates("app/e")), (all) => all.length === 2)
        )
        yield* Effect.sleep("5 seconds")
        assert.strictEqual(waiting.pollUnsafe(), undefined)
        yield* leadership.resign
        assert.isTrue((yield* Fiber.join(waiting)) > leadership.token)
      })),
    60_000
  )
})
