/**
 * One patience for everything a client gives back: how long a closing scope waits for a store that does not answer.
 *
 * What is given back is removed in the background. Its scope waits for that, for at most a second. While one removal has
 * been unanswered for a second, no other waits at all: ten locks cost one second, not ten.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { SharedTimer } from "./sharedTimer.ts"

/** Background work that asks the store for something. */
export interface Work {
  readonly fiber: Fiber.Fiber<unknown>
  /** Whether the store has answered any of its requests, even if by rejecting it. */
  readonly isAnswered: () => boolean
}

export interface Patience {
  /** Waits for the work, but not longer than patience lasts, nor than `atMostMillis`. */
  readonly wait: (work: Work, atMostMillis: number) => Effect.Effect<void>
  /** The store has answered a request: patience is restored. */
  readonly answered: () => void
  /** Whether the store has left a request unanswered for a second. */
  readonly isExhausted: () => boolean
}

/** How long patience lasts, in milliseconds. */
export const patienceMillis = 1000

/** `timer` calls a function after {@link patienceMillis}. */
export const make = (timer: SharedTimer): Patience => {
  const overdue = new Set<Fiber.Fiber<unknown>>()
  const waiting = new Set<() => void>()

  const markOverdue = (fiber: Fiber.Fiber<unknown>) => {
    overdue.add(fiber)
    // One that was interrupted, as by the close of the client, was not answered.
    fiber.addObserver((exit) => Exit.isSuccess(exit) && overdue.delete(fiber))
    for (const stopWaiting of waiting) stopWaiting()
  }

  const waitFor = ({ fiber, isAnswered }: Work): Effect.Effect<void> =>
    Effect.callback((resume) => {
      const stop = () => {
        cancel()
        waiting.delete(stop)
        resume(Effect.void)
      }
      const cancel = timer(() => isAnswered() ? stop() : markOverdue(fiber))
      waiting.add(stop)
      fiber.addObserver(stop)
      return Effect.sync(() => {
        cancel()
        waiting.delete(stop)
      })
    })

  return {
    wait: (work, atMostMillis) =>
      Effect.suspend(() => {
        if (work.fiber.pollUnsafe() !== undefined || overdue.size > 0) return Effect.void
        if (atMostMillis >= patienceMillis) return waitFor(work)
        if (atMostMillis > 0) return Effect.asVoid(Effect.timeoutOption(waitFor(work), Math.ceil(atMostMillis)))
        markOverdue(work.fiber)
        return Effect.void
      }),
    answered: () => overdue.clear(),
    isExhausted: () => overdue.size > 0
  }
}
