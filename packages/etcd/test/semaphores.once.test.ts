/**
 * Semaphores on a real server: across a restart of the server, beside a holder that is cut off from it.
 */
import * as DistSemaphore from "@effect-kv/core/DistSemaphore"
import * as Kv from "@effect-kv/core/Kv"
import { EtcdCluster, TcpProxy } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { client } from "./support/client.ts"

const until = <E>(what: string, condition: Effect.Effect<boolean, E>) =>
  Effect.gen(function*() {
    while (!(yield* condition)) yield* Effect.sleep("20 millis")
  }).pipe(
    Effect.timeoutOrElse({ duration: "40 seconds", orElse: () => Effect.die(new Error(`did not happen: ${what}`)) })
  )

const join = Effect.fnUntraced(function*(endpoint: string) {
  const kv = yield* client({ endpoints: [endpoint] })
  return yield* Effect.provideService(DistSemaphore.make("s", { permits: 2 }), Kv.Kv, kv)
})

describe("semaphores on etcd", () => {
  it.live(
    "after a restart of the server a holder and a waiter continue, and the permits of a holder that is cut off return",
    () =>
      Effect.scoped(Effect.gen(function*() {
        const cluster = yield* EtcdCluster.make()
        const endpoint = cluster.endpoints[0]!
        const proxy = yield* TcpProxy.make({ target: endpoint })
        const semaphore = yield* join(endpoint)
        const counts = Effect.all([semaphore.holders, semaphore.waiters]).pipe(
          Effect.map((all) => all.map(({ length }) => length).join()),
          Effect.orElseSucceed(() => "unknown")
        )
        const has = (expected: string) =>
          until(`${expected} holders and waiters`, Effect.map(counts, (found) => found === expected))

        let hasEnded = false
        const lost = yield* Effect.ensuring(Effect.never, Effect.sync(() => hasEnded = true)).pipe(
          (yield* join(proxy.endpoint)).withPermits(1, { ttl: "3 seconds" }),
          Effect.forkScoped
        )
        yield* has("1,0")
        const scope = yield* Scope.fork(yield* Effect.scope)
        const kept = yield* Scope.provide(semaphore.acquire(1, { ttl: "1 minute" }), scope)
        const waiter = yield* join(endpoint)
        const next = yield* Effect.sync(() => hasEnded).pipe(
          waiter.withPermits(1, { ttl: "1 minute" }),
          Effect.forkScoped
        )
        yield* has("2,1")

        yield* proxy.down
        yield* cluster.killAll
        yield* cluster.startAll
        assert.isTrue(yield* Fiber.join(next), "the holder that is cut off ended before the waiter was admitted")
        assert.strictEqual((yield* Effect.flip(Fiber.join(lost)))._tag, "LockLost")
        assert.isTrue(yield* kept.isHeld)
        yield* has("1,0")
        assert.deepStrictEqual((yield* semaphore.holders).map(({ token }) => token), [kept.token])
        yield* Scope.close(scope, Exit.void)
        yield* has("0,0")
      })),
    120_000
  )
})
