/**
 * A meter: it makes the series of a client in the `MetricRegistry` of the context in which the client was made.
 *
 * Exporters read a series when they export. Until then a series is a plain object. Clients with the same registry share
 * their series: counters and histograms continue over all of them and stay after the last one, so that an exporter that
 * closes later still has them. A gauge adds up the clients that are open, and is removed with the last one.
 */
import * as Context from "effect/Context"
import * as Metric from "effect/Metric"
import { Counter, Histogram } from "./cells.ts"
import type { Definition, Labels } from "./definition.ts"

/** A series of a registry. */
interface Series<out Cell> {
  readonly cell: Cell
  readonly remove: () => void
}

/** The clients that a gauge adds up. */
type Sources = Map<object, Source>

interface Source {
  readonly read: () => number
  uses: number
}

/** The series that this library has made in one registry, by name and labels. */
interface Known {
  readonly counters: Map<string, Series<Counter>>
  readonly histograms: Map<string, Series<Histogram>>
  readonly gauges: Map<string, Series<Sources>>
}

const registries = new WeakMap<Metric.MetricRegistry, Known>()

const knownOf = (registry: Metric.MetricRegistry): Known => {
  const known = registries.get(registry) ?? { counters: new Map(), histograms: new Map(), gauges: new Map() }
  registries.set(registry, known)
  return known
}

/**
 * Makes the series of one client.
 *
 * @since 0.1.0
 */
export class Meter {
  readonly #context: Context.Context<never>
  readonly #known: Known
  readonly #shared: Labels

  /** With the registry and the `CurrentMetricAttributes` of the context. */
  constructor(context: Context.Context<never>) {
    this.#context = context
    this.#known = knownOf(Context.get(context, Metric.MetricRegistry))
    this.#shared = Context.get(context, Metric.CurrentMetricAttributes)
  }

  /** The counter of a series. */
  counter(definition: Definition, labels: Labels = {}): Counter {
    return this.#series(
      this.#known.counters,
      definition,
      labels,
      () => new Counter(),
      (counter) =>
        Metric.registerUnsafe(
          Metric.counter(definition.name, { ...optionsOf(definition, labels), incremental: true }),
          this.#context,
          hooks(() => counter.state)
        )
    )
  }

  /** The histogram of a series. */
  histogram(definition: Definition, labels: Labels = {}): Histogram {
    const boundaries = definition.boundaries ?? []
    return this.#series(
      this.#known.histograms,
      definition,
      labels,
      () => new Histogram(boundaries),
      (histogram) =>
        Metric.registerUnsafe(
          Metric.histogram(definition.name, { ...optionsOf(definition, labels), boundaries }),
          this.#context,
          hooks(() => histogram.state)
        )
    )
  }

  /**
   * Adds a client to a gauge, whose value is read when it is exported. Returns the function that removes it again. A
   * `source` that is added several times counts once.
   */
  gauge(definition: Definition, labels: Labels, read: () => number, source: object = read): () => void {
    const sources = this.#series(
      this.#known.gauges,
      definition,
      labels,
      (): Sources => new Map(),
      (sources) =>
        Metric.registerUnsafe(
          Metric.gauge(definition.name, optionsOf(definition, labels)),
          this.#context,
          hooks(() => ({ value: combined(definition, sources) }))
        )
    )
    const known = sources.get(source)
    if (known === undefined) sources.set(source, { read, uses: 1 })
    else known.uses++
    let isAdded = true
    return () => {
      if (!isAdded) return
      isAdded = false
      const added = sources.get(source)
      if (added === undefined || --added.uses > 0) return
      sources.delete(source)
      if (sources.size === 0) this.#remove(this.#known.gauges, this.#keyOf(definition, labels))
    }
  }

  /** Removes a counter, such as that of an endpoint that is gone. */
  removeCounter(definition: Definition, labels: Labels): void {
    this.#remove(this.#known.counters, this.#keyOf(definition, labels))
  }

  #keyOf(definition: Definition, labels: Labels): string {
    const all = Object.entries({ ...this.#shared, ...labels }).sort(([a], [b]) => a < b ? -1 : 1)
    return JSON.stringify([definition.name, all])
  }

  #series<Cell>(
    known: Map<string, Series<Cell>>,
    definition: Definition,
    labels: Labels,
    make: () => Cell,
    register: (cell: Cell) => Metric.Registration
  ): Cell {
    const key = this.#keyOf(definition, labels)
    const existing = known.get(key)
    if (existing !== undefined) return existing.cell
    const cell = make()
    const registration = register(cell)
    known.set(key, { cell, remove: () => registration.remove() })
    return cell
  }

  #remove(known: Map<string, Series<unknown>>, key: string): void {
    known.get(key)?.remove()
    known.delete(key)
  }
}

const optionsOf = ({ description, unit }: Definition, labels: Labels) => ({
  description,
  attributes: { ...labels, unit }
})

const ignore = (): void => {}

const hooks = <State>(get: () => State): Metric.Metric.Hooks<number, State> => ({ get, update: ignore, modify: ignore })

const combined = ({ of = "Sum" }: Definition, sources: Sources): number => {
  const values = Array.from(sources.values(), ({ read }) => read())
  switch (of) {
    case "Sum":
      return values.reduce((sum, value) => sum + value, 0)
    case "Smallest":
      return Math.min(...values)
    case "Largest":
      return Math.max(...values)
  }
}
