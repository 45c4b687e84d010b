/**
 * Thousands of simulated runs on memory, each with its own interleaving and faults, and each checked by the checkers.
 *
 * `EFFECT_KV_SIMULATION_SEED` repeats one run and prints its trace. A failure prints the command.
 * `EFFECT_KV_SIMULATION_RUNS` is how many runs a file makes; `npm run simulate` makes any number.
 */
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { Simulation, Violation } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"

/** The seed to repeat, if any. */
export const replayed = process.env["EFFECT_KV_SIMULATION_SEED"]

const runs = Number(process.env["EFFECT_KV_SIMULATION_RUNS"] ?? 2500)

const chunk = 500

export const run = (seed: number, between?: Simulation.Options["between"]): Simulation.Run =>
  Simulation.run({ seed, store: MemoryStore.make(), between })

export const seedsOf = (from: number, to: number): ReadonlyArray<number> =>
  Array.from({ length: to - from }, (_, i) => from + i)

/** Registers the tests of the runs, one run for each seed. */
export const simulate = (
  name: string,
  file: string,
  firstSeed: number,
  between?: (seed: number) => Simulation.Options["between"]
): void => {
  const make = (seed: number) => run(seed, between?.(seed))

  const explain = (run: Simulation.Run): string =>
    `seed ${run.seed}, ${run.faultProfile}:\n\n${
      Violation.print(run.history, run.violations)
    }\n\nTo repeat it with its trace: ` +
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
      it(`simulated runs have no violations, seeds from ${from} on`, () => {
        for (const seed of seedsOf(from, from + Math.min(chunk, runs - done))) {
          const made = make(seed)
          if (made.violations.length > 0) assert.fail(explain(made))
        }
      }, 120_000)
    }

    it("two runs of one seed are equal to the last step", () => {
      for (const seed of seedsOf(firstSeed, firstSeed + 200)) {
        assert.strictEqual(make(seed).trace(), make(seed).trace())
      }
    }, 180_000)
  })
}
