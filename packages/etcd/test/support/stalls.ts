/**
 * Times without the stalls of this process. A busy machine runs it late, which is not a fault of the client.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

/** An interval of time, in milliseconds of `performance.now()`. */
export interface Interval {
  readonly from: number
  readonly to: number
}

/** Records the event loop's stalls until the scope closes. Returns how long it was stalled within an interval. */
export const recordStalls: Effect.Effect<(within: Interval) => number, never, Scope.Scope> = Effect.gen(function*() {
  const every = 2
  const stalls: Array<Interval> = []
  let last = performance.now()
  const look = (): void => {
    const now = performance.now()
    if (now - last > 3 * every) stalls.push({ from: last + every, to: now })
    last = now
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => setInterval(look, every)),
    (timer) => Effect.sync(() => clearInterval(timer))
  )
  return (within) => {
    // The one that has not ended yet.
    look()
    return stalls.reduce(
      (sum, { from, to }) => sum + Math.max(Math.min(to, within.to) - Math.max(from, within.from), 0),
      0
    )
  }
})

/**
 * How many milliseconds an effect took, without the stalls of the event loop in this time, its result, and how many it took
 * with them: what may be too long is the first, what may be too short is the last.
 */
export const timedWithoutStalls = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [withoutStalls: number, result: A, withStalls: number], E, R> =>
  Effect.scopedWith((scope) =>
    Effect.gen(function*() {
      const stalled = yield* Effect.provideService(recordStalls, Scope.Scope, scope)
      const from = performance.now()
      const value = yield* effect
      const to = performance.now()
      return [to - from - stalled({ from, to }), value, to - from] as const
    })
  )

/**
 * Makes the attempt again if it failed and the event loop was stalled for a sixth of the milliseconds before the failure:
 * such a failure says nothing of the client. Fails as the last attempt did.
 */
export const unlessStalled = (millis: number) => <A, E, R>(attempt: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Effect.scopedWith((scope) =>
      Effect.gen(function*() {
        const stalled = yield* Effect.provideService(recordStalls, Scope.Scope, scope)
        const exit = yield* Effect.exit(attempt)
        const to = performance.now()
        return { exit, isStalled: stalled({ from: to - millis, to }) > millis / 6 }
      })
    ),
    ({ exit, isStalled }) =>
      Exit.isFailure(exit) && isStalled ? Effect.suspend(() => unlessStalled(millis)(attempt)) : exit
  )
