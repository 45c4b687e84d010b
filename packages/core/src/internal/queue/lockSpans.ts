/**
 * The spans of a lock: one for the wait, until the lock is acquired, and one for the hold, until it is released or lost.
 *
 * Both are children of the caller's span. The work under the lock is a child of the hold.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as spans from "../tracing/spans.ts"
import type { LockKind } from "../values/lockKind.ts"
import type * as heldLock from "./heldLock.ts"
import { HoldSpan } from "./holdSpan.ts"

/** Runs an acquisition in the span of its wait, and begins the span of the hold. Both need a tracer. */
export const around = <A, E>(
  kind: LockKind,
  name: string,
  acquisition: Effect.Effect<A, E>,
  lockOf: (result: A) => Option.Option<heldLock.HeldLock>
): Effect.Effect<A, E> =>
  Effect.withFiber((fiber) => {
    if (!spans.isTraced(fiber)) return acquisition
    const clock = fiber.getRef(Clock.Clock)
    const attributes = { [`effect_kv.${kind}.name`]: name }
    const waiting = spans.within(acquisition, `${kind}.wait`, { attributes }, (span, exit) => {
      const lock = exit._tag === "Success" ? lockOf(exit.value) : Option.none<heldLock.HeldLock>()
      span.attribute("effect_kv.outcome", Option.isSome(lock) ? "acquired" : "not acquired")
      if (Option.isSome(lock)) span.attribute("effect_kv.token", `${lock.value.largestToken}`)
    })
    return Effect.flatMap(waiting, (result) => {
      const lock = Option.getOrUndefined(lockOf(result))
      if (lock === undefined) return Effect.succeed(result)
      return Effect.map(
        Effect.makeSpan(`${kind}.hold`, {
          attributes: { ...attributes, "effect_kv.token": `${lock.largestToken}` }
        }),
        (span) => {
          lock.trace(new HoldSpan(span, clock))
          return result
        }
      )
    })
  })
