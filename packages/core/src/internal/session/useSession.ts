/**
 * The use of a pooled session within the caller's deadline, which limits all steps together.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import type * as Scope from "effect/Scope"
import * as Deadline from "../../values/Deadline.ts"
import type * as KvError from "../../values/KvError.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import * as Session from "./model.ts"
import type { SessionPool } from "./sessionPool.ts"
import type { SharedSession } from "./sharedSession.ts"

/** A function that gives an effect what is left of the caller's deadline from now on, at least a millisecond. */
export const fromNow: Effect.Effect<InTime> = Effect.withFiber((fiber) => Effect.succeed(inTimeOf(fiber)))

const inTimeOf = (fiber: Fiber.Fiber<unknown, unknown>): InTime => {
  const deadline = fiber.getRef(Deadline.Deadline)
  if (deadline === undefined) return identity
  const clock = fiber.getRef(Clock.Clock)
  const began = monotonicMillis(clock)
  return (effect) =>
    Effect.suspend(() => {
      const spent = monotonicMillis(clock) - began
      return Effect.provideService(
        effect,
        Deadline.Deadline,
        Duration.millis(Math.max(1, Math.floor(Duration.toMillis(deadline) - spent)))
      )
    })
}

type InTime = <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>

/**
 * Uses a session of the pool until the scope closes. If the store has ended the lease unnoticed, nothing was written,
 * and the use is repeated once with another session.
 */
export const withLive = <A>(
  pool: SessionPool,
  ttl: Duration.Input | undefined,
  scope: Scope.Scope,
  use: (session: SharedSession) => Effect.Effect<A, KvError.KvError>
): Effect.Effect<A, KvError.KvError> =>
  Effect.withFiber((fiber) => {
    const inTime = inTimeOf(fiber)
    const attempt = (
      orElse: (error: KvError.KvError) => Effect.Effect<A, KvError.KvError>
    ): Effect.Effect<A, KvError.KvError> => {
      let used: SharedSession | undefined
      return Effect.catchReason(
        Effect.flatMap(
          inTime(pool.get(ttl ?? Session.defaultTtl, scope)),
          (session) => inTime(use(used = session))
        ),
        "KvError",
        "LeaseNotFound",
        (_, error) =>
          used === undefined
            ? orElse(error)
            : Effect.andThen(Effect.andThen(used.retire, used.verify), Effect.suspend(() => orElse(error)))
      )
    }
    return attempt(() => attempt(Effect.fail))
  })
