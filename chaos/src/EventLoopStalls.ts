/**
 * Stalls of this process's event loop: a fault blocked it, or the machine gave its CPU to other processes.
 *
 * The client is not at fault for a call that ended late because of a stall.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Span } from "./Span.ts"

/** How often the loop is sampled, and how much later than that a sample is not yet a stall, in milliseconds. */
const interval = 20
const negligible = 30

/** Adds the stalls it measures to the list until it is interrupted. */
export const record = Effect.fnUntraced(function*(stalls: Array<Span>) {
  let last = yield* Clock.monotonicTimeNanos
  while (true) {
    yield* Effect.sleep(interval)
    const now = yield* Clock.monotonicTimeNanos
    if (Number(now - last) / 1e6 > interval + negligible) stalls.push({ from: last, to: now })
    last = now
  }
})
