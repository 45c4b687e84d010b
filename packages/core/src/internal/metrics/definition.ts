/**
 * The definition of a metric: its name, its unit, and the labels of its series.
 */

/**
 * A metric of this library.
 *
 * @since 0.1.0
 */
export interface Definition {
  /** The name in Effect's registry. Prometheus shows dots as underscores. */
  readonly name: string
  readonly type: "Counter" | "Gauge" | "Histogram"
  /** In UCUM notation, as OpenTelemetry uses it: `s`, `By`, `{lock}`. */
  readonly unit: string
  readonly description: string
  /** The labels that a series can have. None of them has an unlimited set of values. */
  readonly labels: ReadonlyArray<string>
  /** How a gauge adds up the clients of a process. Default: their sum. */
  readonly of?: "Sum" | "Smallest" | "Largest" | undefined
  /** The upper bounds of a histogram's buckets. */
  readonly boundaries?: ReadonlyArray<number> | undefined
}

/**
 * The values of a series' labels.
 *
 * @since 0.1.0
 */
export type Labels = Readonly<Record<string, string>>
