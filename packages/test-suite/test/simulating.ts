/**
 * Thousands of runs of the simulation on memory, each with its own interleaving and faults, and each judged by the checkers.
 *
 * `EFFECT_KV_SIMULATION_SEED` makes one run again and prints the whole of it; a failure says how.
 * `EFFECT_KV_SIMULATION_RUNS` is how many runs a file makes.
 */
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { Simulation, Violation } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"

/** The seed to be run again, if there is one. */
export const replayed = process.env["EFFECT_KV_SIMULATION_SEED"]

const runs = Number(process.env["EFFECT_KV_SIMULATION_RUNS"] ?? 5000)

const chunk = 500

export const run = (seed: number, between?: Simulation.Options["between"]): Simulation.Run =>
  Simulation.run({ seed, store: MemoryStore.make(), between })

export const seedsOf = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from }, (_, i) => from + i)

/** Registers the runs. Each seed is another run, whatever is in between. */
export const simulate = (
  name: string,
  file: string,
  firstSeed: number,
  between?: (seed: number) => Simulation.Options["between"]
): void => {
  const make = (seed: number) => run(seed, between?.(seed))

  const explain = (run: Simulation.Run): string =>
    `seed ${run.seed}, ${run.faultProfile}:\n\n${Violation.print(run.history, run.violations)}\n\nThe whole run: ` +
    `EFFECT_KV_SIMULATION_SEED=${run.seed} npm run vitest -- run --project test-suite packages/test-suite/test/${file}`

  describe(name, () => {
    if (replayed !== undefined) {
      it(`seed ${replayed}`, () => {
        const again = make(Number(replayed))
        console.log(again.trace())
        if (again.violations.length > 0) assert.fail(explain(again))
      })
      return
    }

    for (let done = 0; done < runs; done += chunk) {
      const from = firstSeed + done
      it(`break no promise with the seeds from ${from} on`, () => {
        for (const seed of seedsOf(from, from + Math.min(chunk, runs - done))) {
          const made = make(seed)
          if (made.violations.length > 0) assert.fail(explain(made))
        }
      }, 120_000)
    }

    it("do the same again with the same seed, to the last step", () => {
      for (const seed of seedsOf(firstSeed, firstSeed + 200)) {
        assert.strictEqual(make(seed).trace(), make(seed).trace())
      }
    }, 60_000)
  })
}
