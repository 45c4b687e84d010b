/**
 * Counters and histograms as plain objects: recording is a few instructions, without a lookup and without an effect.
 */
import type * as Metric from "effect/Metric"

/**
 * A counter of one series.
 *
 * @since 0.1.0
 */
export class Counter {
  #count = 0

  /** Adds to the counter. Default: 1. */
  add(count = 1): void {
    this.#count += count
  }

  /** @internal */
  get state(): Metric.CounterState<number> {
    return { count: this.#count, incremental: true }
  }
}

/**
 * A histogram of one series.
 *
 * @since 0.1.0
 */
export class Histogram {
  readonly #boundaries: ReadonlyArray<number>
  /** One more than boundaries: the last counts what is above all of them. */
  readonly #counts: Array<number>
  #count = 0
  #sum = 0
  #min = Number.MAX_VALUE
  #max = -Number.MAX_VALUE

  constructor(boundaries: ReadonlyArray<number>) {
    this.#boundaries = boundaries
    this.#counts = Array.from({ length: boundaries.length + 1 }, () => 0)
  }

  /** Records a value, in the unit of the metric. */
  record(value: number): void {
    const boundaries = this.#boundaries
    let i = 0
    while (i < boundaries.length && value > boundaries[i]!) i++
    this.#counts[i]!++
    this.#count++
    this.#sum += value
    if (value < this.#min) this.#min = value
    if (value > this.#max) this.#max = value
  }

  /** @internal */
  get state(): Metric.HistogramState {
    let cumulative = 0
    const buckets = this.#boundaries.map((boundary, i): [number, number] => {
      cumulative += this.#counts[i]!
      return [boundary, cumulative]
    })
    return { buckets, count: this.#count, min: this.#min, max: this.#max, sum: this.#sum }
  }
}
