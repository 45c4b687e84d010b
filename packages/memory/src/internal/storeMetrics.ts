/**
 * The metrics of stores in memory: their sizes, read when an exporter exports.
 */
import * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Store } from "./store.ts"

/** Adds the store to the gauges until the scope closes. Clients of one store count it once. */
export const observe = (store: Store): Effect.Effect<void, never, Scope.Scope> =>
  Effect.contextWith((context) => {
    const meter = new KvMetrics.Meter(context)
    const { leases, mvcc, watches } = store
    const remove = [
      meter.gauge(KvMetrics.memoryKeys, {}, () => mvcc.size, store),
      meter.gauge(KvMetrics.memoryRevision, {}, () => mvcc.revision, store),
      meter.gauge(KvMetrics.memoryWatches, {}, () => watches.size, store),
      meter.gauge(KvMetrics.memoryLeases, {}, () => leases.size, store),
      meter.gauge(KvMetrics.memoryHistory, {}, () => mvcc.logBytes, store)
    ]
    return Effect.addFinalizer(() => Effect.sync(() => remove.forEach((f) => f())))
  })
