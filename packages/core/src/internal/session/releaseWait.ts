/**
 * The wait of a closing scope for the store, limited for all releases of a client together.
 *
 * Locks and temporary keys are removed in the background. Their scope waits for that, at most for a second. While one
 * removal has been without a response for a second, no other is waited for: releasing ten locks costs one second, not
 * ten.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { SharedTimer } from "./sharedTimer.ts"

/** A release that runs in the background. */
export interface Release {
  readonly fiber: Fiber.Fiber<unknown>
  /** Whether the store has responded to any of its requests, even by rejecting it. */
  readonly hasResponse: () => boolean
}

export interface ReleaseWait {
  /**
   * Waits for the release, at most for {@link maxReleaseWaitMillis} and `atMostMillis`. Call it when the effect that it
   * returns is executed.
   */
  readonly wait: (release: Release, atMostMillis: number) => Effect.Effect<void>
  /** Notes that the store has responded to a request: from now on releases are waited for again. */
  readonly onResponse: () => void
  /** Whether a release has been without a response for a second. */
  readonly isUnresponsive: () => boolean
}

/** The longest wait for a release, in milliseconds. */
export const maxReleaseWaitMillis = 1000

/** `timer` must call functions after {@link maxReleaseWaitMillis}. */
export const make = (timer: SharedTimer): ReleaseWait => {
  const overdue = new Set<Fiber.Fiber<unknown>>()
  const waiting = new Set<() => void>()

  const markOverdue = (fiber: Fiber.Fiber<unknown>) => {
    overdue.add(fiber)
    // An interruption, such as the client's close, is not a response.
    fiber.addObserver((exit) => Exit.isSuccess(exit) && overdue.delete(fiber))
    for (const stopWaiting of waiting) stopWaiting()
  }

  const waitFor = ({ fiber, hasResponse }: Release): Effect.Effect<void> =>
    Effect.callback((resume) => {
      const stop = () => {
        cancel()
        waiting.delete(stop)
        resume(Effect.void)
      }
      const cancel = timer(() => hasResponse() ? stop() : markOverdue(fiber))
      waiting.add(stop)
      fiber.addObserver(stop)
      return Effect.sync(() => {
        cancel()
        waiting.delete(stop)
      })
    })

  return {
    wait: (release, atMostMillis) => {
      if (release.fiber.pollUnsafe() !== undefined || overdue.size > 0) return Effect.void
      if (atMostMillis >= maxReleaseWaitMillis) return waitFor(release)
      if (atMostMillis > 0) return Effect.asVoid(Effect.timeoutOption(waitFor(release), Math.ceil(atMostMillis)))
      markOverdue(release.fiber)
      return Effect.void
    },
    onResponse: () => overdue.clear(),
    isUnresponsive: () => overdue.size > 0
  }
}
