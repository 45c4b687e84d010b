/**
 * The use of a pooled session within the caller's deadline, which limits all steps together.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type * as Scope from "effect/Scope"
import * as Deadline from "../../values/Deadline.ts"
import type * as KvError from "../../values/KvError.ts"
import { monotonicMillis } from "../values/monotonic.ts"
import * as Session from "./model.ts"
import type { SessionPool } from "./sessionPool.ts"
import type { SharedSession } from "./sharedSession.ts"

/** A function that gives an effect what is left of the caller's deadline from now on, at least a millisecond. */
export const fromNow: Effect.Effect<InTime> = Effect.withFiber((fiber) => {
  const deadline = fiber.getRef(Deadline.Deadline)
  if (deadline === undefined) return anyTime
  const clock = fiber.getRef(Clock.Clock)
  const began = monotonicMillis(clock)
  return Effect.succeed<InTime>((effect) =>
    Effect.suspend(() => {
      const spent = monotonicMillis(clock) - began
      return Effect.provideService(
        effect,
        Deadline.Deadline,
        Duration.millis(Math.max(1, Math.floor(Duration.toMillis(deadline) - spent)))
      )
    })
  )
})

type InTime = <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>

const anyTime = Effect.succeed<InTime>(identity)

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
  Effect.flatMap(fromNow, (inTime) => {
    const attempt = Effect.flatMap(
      inTime(pool.get(ttl ?? Session.defaultTtl, scope)),
      (session) =>
        Effect.tapError(
          inTime(use(session)),
          (error) =>
            error.reason._tag === "LeaseNotFound" ? Effect.andThen(session.retire, session.verify) : Effect.void
        )
    )
    return Effect.catchReason(attempt, "KvError", "LeaseNotFound", () => attempt)
  })
