/**
 * The background work of a client: ends leases when their time has come, and compacts the history. Every client does
 * both, so neither needs a leader; the row of the store orders them.
 */
import type * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as calls from "./calls.ts"
import type { Connection } from "./connection.ts"
import { realTimeSleep } from "./realTime.ts"

/** How long a client may not know of a lease that another one was granted. */
const longest = 5000
/** A new client does not sweep at once: it may be gone before there is anything to do. */
const first = 500
/** How many revisions are cleaned in one statement. */
const cleanedAtOnce = 10_000n

export interface Sweeper {
  readonly run: Effect.Effect<never>
  /** There is a new lease. */
  readonly wake: () => void
}

/** `onState` runs each time the state of the store was read: after at most five seconds, unless the history is cleaned. */
export const make = (to: Connection, onState: (state: calls.State) => Effect.Effect<void>): Effect.Effect<Sweeper> =>
  Effect.map(Queue.sliding<void>(1), (wakes) => {
    const once = Effect.flatMap(Effect.tap(calls.readState(to), onState), (state) =>
      Effect.andThen(
        compact(to, state),
        state.nextExpiry === 0
          ? Effect.as(to.read(calls.sweep(to)), 20)
          : Effect.map(
            Random.next,
            // Clients that wake at the same time would only wait for each other.
            (random) => Math.min(longest, (state.nextExpiry ?? longest) + 10 + random * 40)
          )
      ))
    const rest = (millis: number) => Effect.raceFirst(Queue.take(wakes), realTimeSleep(millis))
    return {
      run: Effect.andThen(rest(first), Effect.forever(Effect.flatMap(Effect.orElseSucceed(once, () => 500), rest))),
      wake: () => {
        Queue.offerUnsafe(wakes, undefined)
      }
    }
  })

const compact = Effect.fnUntraced(function*(
  to: Connection,
  { cleanable, cleaned, compacted, revision }: calls.State
): Effect.fn.Return<void, KvError.KvError> {
  const history = to.settings.history
  if (revision - compacted > history + history / 10n) yield* to.read(calls.compact(to, revision - history))
  if (cleanable < compacted) yield* to.read(calls.rotate(to))
  if (cleaned < cleanable) yield* clean(to)
})

const clean = (to: Connection): Effect.Effect<void, KvError.KvError> =>
  Effect.flatMap(
    to.read(calls.clean(to, cleanedAtOnce)),
    (rows) => rows[0]![0] === true ? clean(to) : Effect.void
  )
