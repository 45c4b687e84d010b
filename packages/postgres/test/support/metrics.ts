/**
 * Readings of metrics, as an exporter makes them.
 */
import type * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

/** Runs an effect with a registry of its own. */
export const isolated = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => Effect.provideService(effect, Metric.MetricRegistry, new Map()))

/** The sum of a metric's series that have these labels: counts, or the values of gauges. */
export const total = (
  { name }: KvMetrics.Definition,
  labels: Readonly<Record<string, string>> = {}
): Effect.Effect<number> =>
  Effect.map(Metric.snapshot, (series) => {
    const matching = series.filter(({ attributes, id }) =>
      id === name && Object.entries(labels).every(([label, value]) => attributes?.[label] === value)
    )
    return matching.reduce((sum, one) => sum + valueOf(one), 0)
  })

const valueOf = (series: Metric.Metric.Snapshot): number =>
  series.type === "Gauge"
    ? Number(series.state.value)
    : series.type === "Counter" || series.type === "Histogram"
    ? Number(series.state.count)
    : 0
