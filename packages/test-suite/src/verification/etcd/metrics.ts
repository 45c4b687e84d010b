/**
 * Metrics of an etcd member, parsed from the text format of Prometheus.
 */

/**
 * A member's metrics at one moment.
 *
 * @since 0.1.0
 */
export interface Metrics {
  /** The sum of all series with this name, whatever their labels; 0 if there is none. */
  readonly get: (name: string) => number
  /** Every series by its full name, `name{label="value"}`. */
  readonly series: ReadonlyMap<string, number>
}

export const parseMetrics = (text: string): Metrics => {
  const series = new Map<string, number>()
  for (const line of text.split("\n")) {
    const space = line.lastIndexOf(" ")
    if (space > 0 && !line.startsWith("#")) series.set(line.slice(0, space), Number(line.slice(space + 1)))
  }
  return {
    series,
    get: (name) => {
      let sum = 0
      for (const [key, value] of series) if (key === name || key.startsWith(`${name}{`)) sum += value
      return sum
    }
  }
}
