/**
 * The spans of a lock, a leadership, permits or a slot: one for the wait, until it is acquired, and one for the hold,
 * until it is released or lost.
 *
 * Both are children of the caller's span. The work under the lock is a child of the hold.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as spans from "../tracing/spans.ts"
import type { LockKind } from "../values/lockKind.ts"
import { HoldSpan } from "./holdSpan.ts"

/** What is held after an acquisition. */
interface Held {
  readonly largestToken: bigint
  /** Records the hold in a span, which ends with it. */
  readonly trace: (span: HoldSpan) => void
}

/** Runs an acquisition in the span of its wait, and begins the span of the hold. Both need a tracer. */
export const around = <A, E, R>(
  kind: LockKind,
  name: string,
  acquisition: Effect.Effect<A, E, R>,
  lockOf: (result: A) => Option.Option<Held>
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) => {
    if (!spans.isTraced(fiber)) return acquisition
    const clock = fiber.getRef(Clock.Clock)
    const waiting = spans.within(acquisition, `${kind}.wait`, { attributes: nameOf(kind, name) }, (span, exit) => {
      const lock = exit._tag === "Success" ? lockOf(exit.value) : Option.none<Held>()
      span.attribute("effect_kv.outcome", Option.isSome(lock) ? "acquired" : "not acquired")
      if (Option.isSome(lock)) span.attribute("effect_kv.token", `${lock.value.largestToken}`)
    })
    return Effect.flatMap(waiting, (result) => {
      const lock = Option.getOrUndefined(lockOf(result))
      if (lock === undefined) return Effect.succeed(result)
      return Effect.map(makeHold(kind, name, lock.largestToken, clock), (span) => {
        lock.trace(span)
        return result
      })
    })
  })

/** Begins the span of a hold without a wait, such as a run's; `undefined` if no tracer is installed. */
export const hold = (kind: LockKind, name: string, token: bigint): Effect.Effect<HoldSpan | undefined> =>
  Effect.withFiber((fiber) =>
    spans.isTraced(fiber) ? makeHold(kind, name, token, fiber.getRef(Clock.Clock)) : Effect.undefined
  )

const makeHold = (kind: LockKind, name: string, token: bigint, clock: Clock.Clock): Effect.Effect<HoldSpan> =>
  Effect.map(
    Effect.makeSpan(`${kind}.hold`, { attributes: { ...nameOf(kind, name), "effect_kv.token": `${token}` } }),
    (span) => new HoldSpan(span, clock)
  )

const nameOf = (kind: LockKind, name: string): Readonly<Record<string, string>> => ({
  [`effect_kv.${kind}.name`]: name
})
