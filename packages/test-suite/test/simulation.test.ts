/**
 * Thousands of runs of the simulation on memory, each with its own interleaving and faults, and each judged by the checkers;
 * with every client as it is, and with concurrent operations folded into transactions.
 *
 *     EFFECT_KV_SIMULATION_SEED=7 npm run vitest -- run --project test-suite packages/test-suite/test/simulation.test.ts
 *
 * makes one run again and prints the whole of it. `EFFECT_KV_SIMULATION_RUNS` is how many runs there are of each kind.
 */
import { folded } from "@effect-kv/core/Folding"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import * as Simulation from "@effect-kv/test-suite/Simulation"
import * as Violation from "@effect-kv/test-suite/Violation"
import { assert, describe, it } from "@effect/vitest"
import { simulatedSabotages } from "./simulationSabotages.ts"

const replayed = process.env["EFFECT_KV_SIMULATION_SEED"]
const runs = Number(process.env["EFFECT_KV_SIMULATION_RUNS"] ?? 5000)
const chunk = 500

const kinds = {
  "as it is": undefined,
  "folded": folded()
}

const run = (seed: number, between?: Simulation.Options["between"]) =>
  Simulation.run({ seed, store: MemoryStore.make(), between })

const explain = (run: Simulation.Run): string =>
  `seed ${run.seed}, ${run.weather}:\n\n${Violation.print(run.history, run.violations)}\n\n` +
  `EFFECT_KV_SIMULATION_SEED=${run.seed} npm run vitest -- run --project test-suite ` +
  "packages/test-suite/test/simulation.test.ts"

const seedsOf = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

for (const [kind, between] of Object.entries(kinds)) {
  describe(`simulated clients of memory, ${kind}`, () => {
    if (replayed !== undefined) {
      it(`seed ${replayed}`, () => {
        const again = run(Number(replayed), between)
        console.log(again.trace())
        if (again.violations.length > 0) assert.fail(explain(again))
      })
      return
    }

    for (let from = 0; from < runs; from += chunk) {
      it(`break no promise with the seeds from ${from} on`, () => {
        for (const seed of seedsOf(from, Math.min(from + chunk, runs))) {
          const made = run(seed, between)
          if (made.violations.length > 0) assert.fail(explain(made))
        }
      }, 120_000)
    }

    it("do the same again with the same seed, to the last step", () => {
      for (const seed of seedsOf(0, 50)) assert.strictEqual(run(seed, between).trace(), run(seed, between).trace())
    }, 60_000)
  })
}

if (replayed === undefined) {
  describe("the simulation", () => {
    it("has something of everything in it", () => {
      const all = seedsOf(0, 200).map((seed) => run(seed))
      const reasons = all.flatMap(({ history }) => [
        ...history.calls.map(({ outcome }) => outcome._tag === "Failed" ? outcome.reason : outcome._tag),
        ...history.watches.map(({ ended }) => ended?.how._tag === "Failed" ? ended.how.reason : "Answered")
      ])
      assert.includeMembers(reasons, [
        "Answered",
        "Interrupted",
        "Unavailable",
        "Indeterminate",
        "DeadlineExceeded",
        "LeaseNotFound",
        "Compacted"
      ])
      const losses = all.flatMap(({ history }) => history.holdings.filter(({ ended }) => ended?.how === "Lost"))
      assert.isAbove(losses.length, 10)
      const refused = all.flatMap(({ history }) => history.effects.filter(({ outcome }) => outcome === "Rejected"))
      assert.isAbove(refused.length, 0)
    }, 60_000)
  })

  describe("the simulation finds a client that", () => {
    for (const { between, title } of simulatedSabotages) {
      it(title, () => {
        const found = seedsOf(0, 300).find((seed) => run(seed, between).violations.length > 0)
        assert.isDefined(found, "300 runs found nothing")
      }, 60_000)
    }
  })
}
