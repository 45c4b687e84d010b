/**
 * The metrics of a program's stores, locks and sessions, in Effect's `Metric` registry.
 *
 * They are recorded by default and cost almost nothing until an exporter reads them, such as Effect's
 * `PrometheusMetrics` or `Otlp`. The operating guide, `docs/operating.md`, says which to alert on. No label has a key, a
 * value or any other unlimited set of values.
 *
 * `EtcdLayer` records all of them. `MemoryLayer` records all except those of calls: a call to it takes less time than
 * measuring it. Metrics are recorded in the registry, and with the `CurrentMetricAttributes`, of the layer's builder.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Calls } from "../internal/metrics/calls.ts"
import * as calls_ from "../internal/metrics/calls.ts"
import type { KvBackend } from "./KvBackend.ts"

export type { Calls, Operation } from "../internal/metrics/calls.ts"
export type { Counter, Histogram } from "../internal/metrics/cells.ts"
export type { Definition, Labels } from "../internal/metrics/definition.ts"
export * from "../internal/metrics/definitions.ts"
export { Meter } from "../internal/metrics/meter.ts"

/**
 * The metrics of the calls to one backend. Their gauges are removed when the scope closes.
 *
 * **When to use**
 *
 * In the layer of a backend: pass it to `Batching.batched`, or to {@link measured} if the backend is not batched.
 *
 * @example
 * ```ts
 * import { Kv, KvMetrics } from "@effect-kv/core"
 * import { MemoryStore } from "@effect-kv/memory"
 * import { Effect, Metric } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const store = yield* MemoryStore.make()
 *   const calls = yield* KvMetrics.calls({ "db.system.name": "mine" })
 *   const kv = yield* Effect.flatMap(store.connect, (backend) => Kv.make(KvMetrics.measured(calls)(backend)))
 *   yield* kv.put("a", "1")
 *   const names = (yield* Metric.snapshot).map((metric) => metric.id)
 *   names.includes(KvMetrics.operationDuration.name) // => true
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const calls = (labels: Readonly<Record<string, string>>): Effect.Effect<Calls, never, Scope.Scope> =>
  calls_.make(labels)

/**
 * Measures each call to the backend: its duration, its failure, and how many calls are in flight.
 *
 * @example
 * ```ts
 * import { Kv, KvMetrics } from "@effect-kv/core"
 * import { Effect, Metric } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const calls = yield* KvMetrics.calls({ "db.system.name": "memory" })
 *   const kv = Kv.mapBackend(yield* Kv.Kv, KvMetrics.measured(calls))
 *   yield* Effect.flip(kv.put("", "1"))
 *   const failed = (yield* Metric.snapshot).filter(({ attributes }) => attributes?.["error.type"] === "InvalidRequest")
 *   failed.length // => 1
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const measured: (calls: Calls) => (backend: KvBackend) => KvBackend = calls_.measured
