/**
 * The metrics of a client's watches. They are computed when an exporter reads them.
 */
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Feed } from "./feed.ts"
import type { WatchState } from "./watchState.ts"

/** Adds the gauges of the feed's watches, until the scope closes. */
export const observe = (meter: KvMetrics.Meter, feed: Feed): Effect.Effect<void, never, Scope.Scope> =>
  Effect.suspend(() => {
    const all = (): ReadonlyArray<WatchState> => Array.from(feed.watches)
    const ofState = (state: State) =>
      meter.gauge(KvMetrics.watches, { state }, () => all().filter((watch) => stateOf(watch) === state).length)
    const remove = [
      ofState("live"),
      ofState("waiting"),
      ofState("parked"),
      meter.gauge(KvMetrics.watchLag, {}, () => Math.max(0, ...all().map((watch) => lagOf(feed, watch)))),
      meter.gauge(KvMetrics.watchBuffered, {}, () => all().reduce((sum, { bufferedBytes }) => sum + bufferedBytes, 0))
    ]
    return Effect.addFinalizer(() => Effect.sync(() => remove.forEach((f) => f())))
  })

type State = "live" | "waiting" | "parked"

const stateOf = ({ interruption, isParked }: WatchState): State =>
  interruption !== undefined ? "waiting" : isParked ? "parked" : "live"

const lagOf = ({ position }: Feed, { unread }: WatchState): number =>
  position === undefined || unread === undefined ? 0 : Math.max(0, Number(position - unread) + 1)
