/**
 * Small differences between subjects: their median over many short blocks of rounds, and how sure it is.
 *
 * In a block the subjects take turns once forwards and once backwards, so a drift of the machine affects them alike. The
 * ratio of a block is the geometric mean of its two ratios. The interval contains the true median with a probability of
 * 95 %: it is that of the medians of 2000 random samples of the blocks (a bootstrap).
 */
import { median, type Round, type Row } from "./Row.ts"

/** The median of the blocks, and the interval that contains the true one with a probability of 95 %. */
export interface Interval {
  readonly median: number
  readonly low: number
  readonly high: number
}

/** A subject against the first one of its scenario. */
export interface Paired {
  readonly blocks: number
  /** Of the throughputs. */
  readonly throughput: Interval
  /** Of the CPU times of one operation. */
  readonly cpu: Interval
}

/** Adds the comparison with the first row to all others. The rounds are those of `Measure.takeTurns`. */
export const compared = ([first, ...others]: ReadonlyArray<Row>): ReadonlyArray<Row> =>
  first === undefined ? [] : [
    first,
    ...others.map((row): Row => ({
      ...row,
      paired: {
        blocks: Math.floor(row.rounds.length / 2),
        throughput: intervalOf(blocksOf(row, first, ({ opsPerSecond }) => opsPerSecond)),
        cpu: intervalOf(blocksOf(row, first, ({ cpuMicrosPerOp }) => cpuMicrosPerOp))
      }
    }))
  ]

const blocksOf = (row: Row, first: Row, valueOf: (round: Round) => number): ReadonlyArray<number> => {
  const ratios = row.rounds.map((round, i) => valueOf(round) / valueOf(first.rounds[i]!))
  return Array.from({ length: Math.floor(ratios.length / 2) }, (_, i) => Math.sqrt(ratios[2 * i]! * ratios[2 * i + 1]!))
}

const resamples = 2000

/** The same for the same values: its random numbers begin with a fixed seed. */
export const intervalOf = (values: ReadonlyArray<number>): Interval => {
  const random = randomFrom(1)
  const medians = Array.from(
    { length: resamples },
    () => median(values.map(() => values[Math.floor(random() * values.length)]!))
  ).sort((a, b) => a - b)
  return {
    median: median(values),
    low: medians[Math.floor(resamples * 0.025)]!,
    high: medians[Math.ceil(resamples * 0.975) - 1]!
  }
}

/** Numbers from 0 to 1 (mulberry32). */
const randomFrom = (seed: number) => (): number => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}
