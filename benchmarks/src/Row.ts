/**
 * Rows of the result.
 */

/** The result of one round of one subject. */
export interface Round {
  readonly opsPerSecond: number
  /** In milliseconds. */
  readonly p50Ms: number
  readonly p99Ms: number
  /** Of this process, in microseconds. */
  readonly cpuMicrosPerOp: number
}

/** The median of the blocks, and the interval that contains the true one with a probability of 95 %. */
export interface Interval {
  readonly median: number
  readonly low: number
  readonly high: number
}

/** A subject against its baseline: the geometric mean of one or several others that do the same. */
export interface Paired {
  readonly blocks: number
  /** Of the throughputs. */
  readonly throughput: Interval
  /** Of the CPU times of one operation. */
  readonly cpu: Interval
}

/** A subject in a scenario: the medians of its rounds. */
export interface Row extends Round {
  readonly scenario: string
  readonly subject: string
  readonly inFlight: number
  /** The throughput of the slowest and the fastest round. */
  readonly opsPerSecondMin: number
  readonly opsPerSecondMax: number
  /** The baseline of `ratio`: the first subject of the scenario. */
  readonly ratioTo: string
  /** The ratio of the throughputs: its median, minimum and maximum over the rounds. */
  readonly ratio: number
  readonly ratioMin: number
  readonly ratioMax: number
  /** The rounds, in the order in which the subjects took turns. */
  readonly rounds: ReadonlyArray<Round>
  /** For small differences. */
  readonly paired?: Paired
  /** For packages: the size of the minified JavaScript, plain and compressed. */
  readonly minifiedBytes?: number
  readonly gzippedBytes?: number
  /** For the growth of a store on Postgres: the sizes at the end of the row. */
  readonly storage?: {
    readonly entryBytes: number
    readonly logBytes: number
    /** Of all indexes of both tables. */
    readonly indexBytes: number
    /** The rows of the log. */
    readonly rows: number
  }
  /** For how long, at most, the machine let nothing run during a round. `p50Ms` is without it. */
  readonly stallMillis?: number
  /** Of what is opened and closed. */
  readonly memory?: {
    /** What one keeps while it is open. */
    readonly eachBytes: number
    /** By how much memory grew while so many were opened and closed again. */
    readonly growthBytes: number
    readonly cycles: number
  }
}

/** The rows of subjects that took turns. */
export const rowsOf = (
  scenario: string,
  inFlight: number,
  found: ReadonlyMap<string, ReadonlyArray<Round>>
): ReadonlyArray<Row> => {
  const [[ratioTo, first]] = [...found] as [[string, ReadonlyArray<Round>]]
  return [...found].map(([subject, rounds]): Row => {
    const rates = rounds.map((round) => round.opsPerSecond)
    const ratios = rounds.map((round, i) => round.opsPerSecond / first[i]!.opsPerSecond)
    return {
      scenario,
      subject,
      inFlight,
      opsPerSecond: median(rates),
      p50Ms: median(rounds.map((round) => round.p50Ms)),
      p99Ms: median(rounds.map((round) => round.p99Ms)),
      cpuMicrosPerOp: median(rounds.map((round) => round.cpuMicrosPerOp)),
      opsPerSecondMin: Math.min(...rates),
      opsPerSecondMax: Math.max(...rates),
      ratioTo,
      ratio: median(ratios),
      ratioMin: Math.min(...ratios),
      ratioMax: Math.max(...ratios),
      rounds
    }
  })
}

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >>> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
