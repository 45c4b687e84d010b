/**
 * The span of a session, from the grant of its lease to its end: a trace of its own. Its renewals have no spans, because
 * a session that lives for days would fill its trace with them.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Tracer from "effect/Tracer"
import type { Granted } from "../session/leaseGrant.ts"
import { SessionLost } from "../session/sessionLost.ts"
import * as spans from "./spans.ts"

/** A granted lease, and the function to call once when its session has ended. */
export interface Traced {
  readonly granted: Granted
  readonly onEnd: (reason: string, isOrderly: boolean) => void
}

const ignore = (): void => {}

/** Begins the span with the grant, if a tracer is installed. */
export const around = <E, R>(grant: Effect.Effect<Granted, E, R>): Effect.Effect<Traced, E, R> =>
  Effect.withFiber<Traced, E, R>((fiber) => {
    if (!spans.isTraced(fiber)) return Effect.map(grant, (granted) => ({ granted, onEnd: ignore }))
    const clock = fiber.getRef(Clock.Clock)
    return Effect.flatMap(
      Effect.makeSpan("session", { root: true }),
      (span) =>
        (Effect.provideService(grant, Tracer.ParentSpan, span) as Effect.Effect<Granted, E, R>).pipe(
          Effect.onError((cause) => Effect.sync(() => span.end(clock.currentTimeNanosUnsafe(), Exit.failCause(cause)))),
          Effect.map((granted) => {
            span.attribute("effect_kv.lease", granted.lease.toString(16))
            return { granted, onEnd: endOf(span, granted.lease, clock) }
          })
        )
    )
  })

const endOf = (span: Tracer.Span, lease: bigint, clock: Clock.Clock): Traced["onEnd"] => (reason, isOrderly) => {
  span.attribute("effect_kv.outcome", isOrderly ? "closed" : "lost")
  span.end(
    clock.currentTimeNanosUnsafe(),
    isOrderly ? Exit.void : Exit.fail(new SessionLost({ lease, reason }))
  )
}
