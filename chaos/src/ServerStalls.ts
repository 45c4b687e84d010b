/**
 * Stalls of the servers, measured without the library under test: each member's `/health` is requested over plain HTTP
 * several times a second. It reads through the quorum, as a renewal of a lease does.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import type { Span } from "./Span.ts"
import type { Testbed } from "./Testbed.ts"

/** The pause between two requests to a member, and the response time up to which there is no stall, in milliseconds. */
const interval = 250
const negligible = 100

/** A member that has not responded after so many milliseconds is requested again. */
const limit = 2000

/** Adds the stalls it measures to the list until it is interrupted. */
export const record = ({ slots }: Testbed, stalls: Array<Span>): Effect.Effect<void> =>
  Effect.forEach(slots, (_, slot) => Effect.forever(probe(() => slots[slot]!.endpoint, stalls)), {
    concurrency: "unbounded",
    discard: true
  })

const probe = Effect.fnUntraced(function*(endpoint: () => string, stalls: Array<Span>) {
  const from = yield* Clock.monotonicTimeNanos
  // A member that does not run refuses the connection at once: that is no stall.
  yield* Effect.timeoutOption(get(`${endpoint()}/health`), limit)
  const to = yield* Clock.monotonicTimeNanos
  if (Number(to - from) / 1e6 > negligible) stalls.push({ from, to })
  yield* Effect.sleep(interval)
})

/** Ends when the request has, whatever the response. On a connection of its own, because sockets are counted. */
const get = (url: string): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const request = Http.get(url, { agent: false, headers: { connection: "close" } }, (response) => response.resume())
    request.on("error", () => {})
    request.on("close", () => resume(Effect.void))
    return Effect.sync(() => request.destroy())
  })
