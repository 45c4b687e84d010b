/**
 * The comparison of subjects in blocks finds a difference that is smaller than the noise.
 */
import { assert, it } from "@effect/vitest"
import * as Paired from "../src/Paired.ts"
import { type Round, rowsOf } from "../src/Row.ts"

/** Rounds of two subjects on a machine that slows down, with noise. The second subject is slower by this ratio. */
const comparedWith = (ratio: number) => {
  let seed = 1
  const random = (): number => {
    seed = (seed * 48271) % 2147483647
    return seed / 2147483647
  }
  const round = (opsPerSecond: number): Round => ({
    opsPerSecond,
    p50Ms: 1,
    p99Ms: 1,
    cpuMicrosPerOp: 1_000_000 / opsPerSecond
  })
  const rounds = (ratio: number): ReadonlyArray<Round> =>
    Array.from({ length: 200 }, (_, i) => round(ratio * (10_000 - 10 * i) * (0.9 + 0.2 * random())))
  const [first, second, again] = rowsOf(
    "scenario",
    256,
    new Map([["without", rounds(1)], ["with", rounds(ratio)], ["again", rounds(1)]])
  )
  return Paired.compare(second!, [first!, again!])
}

it("a difference in throughput and CPU time is found, with an interval that contains it", () => {
  const { blocks, cpu, throughput } = comparedWith(0.96)
  assert.strictEqual(blocks, 100)
  assert.isTrue(throughput.low < 0.96 && throughput.high > 0.96 && throughput.high < 1, JSON.stringify(throughput))
  assert.isTrue(cpu.low < 1 / 0.96 && cpu.high > 1 / 0.96 && cpu.low > 1, JSON.stringify(cpu))
})

it("no difference is an interval around one", () => {
  const { cpu, throughput } = comparedWith(1)
  assert.isTrue(throughput.low < 1 && throughput.high > 1, JSON.stringify(throughput))
  assert.isTrue(cpu.low < 1 && cpu.high > 1, JSON.stringify(cpu))
})
