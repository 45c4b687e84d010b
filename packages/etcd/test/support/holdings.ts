/**
 * What a client must not lose while its endpoints, certificates or password change: a lock, a temporary key and a watch.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as TempKey from "@effect-kv/core/TempKey"
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { eventually } from "./watching.ts"

/** Acquires them. The lock and the temporary key share a lease. */
export const hold = Effect.fnUntraced(function*(kv: Kv.Kv, ttl: Duration.Input) {
  const ending = Latch.makeUnsafe()
  const began = Latch.makeUnsafe()
  const body = Effect.andThen(began.open, Effect.andThen(ending.await, Kv.put("fenced", "written under the lock")))
  const provided = <A, E>(effect: Effect.Effect<A, E, Kv.Kv>): Effect.Effect<A, E> =>
    Effect.provideService(effect, Kv.Kv, kv)
  const lock = yield* Effect.forkScoped(provided(DistLock.withDistLock(body, "held", { ttl })))
  yield* Effect.raceFirst(began.await, Fiber.join(lock))
  const temporary = yield* Effect.provideService(TempKey.make("temporary", { ttl, onLost: "fail" }), Kv.Kv, kv)
  const lost = yield* Effect.forkScoped(temporary.lost)
  const { createRevision } = Option.getOrThrow(yield* kv.getEntry("temporary"))
  const seen: Array<string> = []
  const subscription = yield* kv.subscribe(KeyRange.key("seen"))
  yield* Effect.forkScoped(Stream.runForEach(subscription.events, (event) =>
    Effect.sync(() => {
      if (event._tag === "Put") seen.push(event.entry.lossyText)
    })))
  const remaining = Effect.map(
    Effect.flatMap(temporary.lease, (lease) => backendOf(kv).leaseTimeToLive(Option.getOrThrow(lease))),
    ({ remaining }) => Duration.toMillis(remaining)
  )
  return {
    /** Waits until the lease is renewed once more. */
    renewed: Effect.gen(function*() {
      let before = yield* remaining
      yield* Effect.repeat(remaining, {
        schedule: Schedule.spaced("50 millis"),
        until: (now) => {
          const isRenewed = now > before
          before = now
          return isRenewed
        }
      })
    }),
    /** Ends the lock, and checks that nothing was lost, and that the watch has delivered exactly these values. */
    check: Effect.fnUntraced(function*(expected: ReadonlyArray<string>) {
      yield* eventually(Effect.sync(() => seen.length >= expected.length))
      assert.deepStrictEqual(seen, expected)
      assert.isUndefined(lock.pollUnsafe(), "the lock is still held")
      yield* ending.open
      yield* Fiber.join(lock)
      assert.deepStrictEqual(yield* kv.get("fenced"), Option.some("written under the lock"))
      assert.isUndefined(lost.pollUnsafe(), "the temporary key was not lost")
      assert.strictEqual(Option.getOrThrow(yield* kv.getEntry("temporary")).createRevision, createRevision)
    })
  }
})
