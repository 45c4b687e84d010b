/**
 * The metrics of a client's watches. They are computed when an exporter reads them.
 */
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { WatchPool } from "./watchPool.ts"

/** Adds the gauges of the pool's watches, until the scope closes. */
export const observe = (meter: KvMetrics.Meter, pool: WatchPool): Effect.Effect<void, never, Scope.Scope> =>
  Effect.suspend(() => {
    const ofState = (state: WatchStateName) =>
      meter.gauge(KvMetrics.watches, { state }, () => pool.count((watch) => stateOf(watch.state._tag) === state))
    const remove = [
      ofState("live"),
      ofState("waiting"),
      ofState("parked"),
      meter.gauge(KvMetrics.watchLag, {}, () => Number(pool.lag())),
      meter.gauge(KvMetrics.watchBuffered, {}, () => pool.bufferedBytes())
    ]
    return Effect.addFinalizer(() => Effect.sync(() => remove.forEach((f) => f())))
  })

type WatchStateName = "live" | "waiting" | "parked"

const stateOf = (tag: string): WatchStateName | undefined => {
  switch (tag) {
    case "Live":
      return "live"
    case "Parked":
      return "parked"
    case "Ended":
      return undefined
    default:
      return "waiting"
  }
}
