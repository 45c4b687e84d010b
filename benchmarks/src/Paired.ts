/**
 * Small differences between subjects: their median over many short blocks of rounds, and how sure it is.
 *
 * In a block the subjects take turns once forwards and once backwards, so a drift of the machine affects them alike. The
 * ratio of a block is the geometric mean of its two ratios. The interval contains the true median with a probability of
 * 95 %: it is that of the medians of 2000 random samples of the blocks (a bootstrap).
 */
import { type Interval, median, type Paired, type Round, type Row } from "./Row.ts"

/** Compares the rounds of a row with those of the baseline. They are as `Measure.takeTurns` makes them. */
export const compare = (row: Row, baseline: ReadonlyArray<Row>): Paired => ({
  blocks: Math.floor(row.rounds.length / 2),
  throughput: intervalOf(blocksOf(row, baseline, ({ opsPerSecond }) => opsPerSecond)),
  cpu: intervalOf(blocksOf(row, baseline, ({ cpuMicrosPerOp }) => cpuMicrosPerOp))
})

const blocksOf = (
  row: Row,
  baseline: ReadonlyArray<Row>,
  valueOf: (round: Round) => number
): ReadonlyArray<number> => {
  const ofBlock = ({ rounds }: Row, block: number): number =>
    Math.sqrt(valueOf(rounds[2 * block]!) * valueOf(rounds[2 * block + 1]!))
  return Array.from(
    { length: Math.floor(row.rounds.length / 2) },
    (_, block) => ofBlock(row, block) / Math.exp(mean(baseline.map((other) => Math.log(ofBlock(other, block)))))
  )
}

const mean = (values: ReadonlyArray<number>): number => values.reduce((sum, value) => sum + value, 0) / values.length

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
