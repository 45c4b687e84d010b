/**
 * Stalls of the servers, measured without the library under test: each server gets a request several times a second that
 * takes as long as a renewal of a lease does. On etcd it reads through the quorum, on Postgres it commits.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Span } from "./Span.ts"
import type { Store } from "./Store.ts"

/** The pause between two requests to a server, and the response time up to which there is no stall, in milliseconds. */
const interval = 250
const negligible = 100

/** A server that has not responded after so many milliseconds gets another request. */
const limit = 2000

/** Adds the stalls it measures to the list until it is interrupted. */
export const record = ({ probes }: Store, stalls: Array<Span>): Effect.Effect<void> =>
  Effect.forEach(probes, (probe) => Effect.forever(measure(probe, stalls)), {
    concurrency: "unbounded",
    discard: true
  })

const measure = Effect.fnUntraced(function*(probe: Effect.Effect<void>, stalls: Array<Span>) {
  const from = yield* Clock.monotonicTimeNanos
  // A server that does not run refuses the connection at once: that is not a stall.
  yield* Effect.timeoutOption(probe, limit)
  const to = yield* Clock.monotonicTimeNanos
  if (Number(to - from) / 1e6 > negligible) stalls.push({ from, to })
  yield* Effect.sleep(interval)
})
