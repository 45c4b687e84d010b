/**
 * Readings of metrics, as an exporter makes them.
 */
import type * as KvMetrics from "@effect-kv/core/KvMetrics"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"

/** The sum of a metric's series that have these labels: of a counter its count, of a gauge its value. */
export const total = (
  { name }: KvMetrics.Definition,
  labels: Readonly<Record<string, string>> = {}
): Effect.Effect<number> =>
  Effect.map(Metric.snapshot, (series) => {
    const matching = series.filter(({ attributes, id }) =>
      id === name && Object.entries(labels).every(([label, value]) => attributes?.[label] === value)
    )
    return matching.reduce((sum, { state, type }) => sum + valueOf(type, state), 0)
  })

const valueOf = (type: Metric.Metric.Type, state: unknown): number => {
  switch (type) {
    case "Counter":
      return Number((state as Metric.CounterState<number>).count)
    case "Gauge":
      return Number((state as Metric.GaugeState<number>).value)
    default:
      return (state as Metric.HistogramState).count
  }
}
