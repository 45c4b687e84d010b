/**
 * An unreachable store: a call that ends at a limit says why there was no response, however short the limit was.
 *
 * A store without a network cannot be unreachable: see `Store.unreachable`.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import * as DistLock from "@effect-kv/core/DistLock"
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import * as KvHealth from "@effect-kv/core/KvHealth"
import { LockTimeout } from "@effect-kv/core/LockError"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { chapter, Store, waitingTest, waitUntil } from "./Case.ts"

/** Shorter than the deadline of any store. */
const limit = "700 millis"

const within = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => Deadline.within(effect, limit)

const attempts: ReadonlyArray<
  readonly [what: string, attempt: Effect.Effect<unknown, { readonly message: string }, Kv.Kv | Scope.Scope>]
> = [
  ["a read", within(Kv.get("k"))],
  ["a write", within(Kv.put("k", "v"))],
  ["concurrent writes", within(Effect.all([Kv.put("a", "v"), Kv.put("b", "v"), Kv.put("c", "v")], { concurrency: 3 }))],
  ["a lock", within(DistLock.withDistLock(Effect.void, "l"))],
  ["a lock that is not waited for", within(DistLock.tryAcquire("l"))],
  ["a lock with acquireTimeout", DistLock.withDistLock(Effect.void, "l", { acquireTimeout: limit })],
  ["a leadership with acquireTimeout", Election.campaign("e", { value: "me", acquireTimeout: limit })],
  ["a temporary key", within(TempKey.make("t", { value: "v" }))],
  ["a check of health", KvHealth.check({ deadline: limit })]
]

export const cases = chapter("errors", [
  waitingTest("every call and recipe that gives up before the store's own deadline names the cause", function*() {
    const { unreachable } = yield* Store
    if (unreachable === undefined) return
    const { client, cause } = unreachable
    const failures = yield* Effect.forEach(
      attempts,
      ([what, attempt]) =>
        Effect.map(
          Effect.flatMap(client, (kv) =>
            Effect.forkScoped(Effect.flip(Effect.provideService(Effect.scoped(attempt), Kv.Kv, kv)))),
          (fiber) =>
            [what, fiber] as const
        )
    )
    for (const [what, fiber] of failures) {
      yield* waitUntil(`the failure of ${what}`, Effect.sync(() => fiber.pollUnsafe() !== undefined))
      const error = yield* Fiber.join(fiber)
      assert.match(error.message, cause, what)
      if (error instanceof LockTimeout) assert.match(Option.getOrThrow(error.storeFailure).message, cause)
    }
  })
])
