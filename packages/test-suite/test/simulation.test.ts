/**
 * Simulated clients of memory, and mutants that the simulation must find.
 */
import { assert, describe, it } from "@effect/vitest"
import { replayed, run, seedsOf, simulate } from "./simulating.ts"
import { simulatedMutants } from "./simulationMutants.ts"

simulate("simulated clients of memory", "simulation.test.ts", 0)

describe.skipIf(replayed !== undefined)("the simulation", () => {
  it("simulated runs contain every kind of outcome and lost locks", () => {
    const runs = seedsOf(0, 300).map((seed) => run(seed))
    const all = runs.map(({ history }) => history)
    const responsesOf = ({ history }: (typeof runs)[number]) =>
      history.calls.filter(({ outcome }) => outcome._tag === "Responded").length
    for (const made of runs) {
      const responses = responsesOf(made)
      assert.isTrue(
        responses >= 12 && made.changes.length >= 5,
        `seed ${made.seed}: ${responses} responses, ${made.changes.length} changes`
      )
    }
    const mean = runs.reduce((sum, made) => sum + responsesOf(made), 0) / runs.length
    assert.isAbove(mean, 40, "responses of a run")
    const reasons = all.flatMap(({ calls, watches }) => [
      ...calls.map(({ outcome }) => outcome._tag === "Failed" ? outcome.reason : outcome._tag),
      ...watches.map(({ ended }) => ended?.how._tag === "Failed" ? ended.how.reason : "Responded")
    ])
    assert.includeMembers(reasons, [
      "Responded",
      "Interrupted",
      "Unavailable",
      "Indeterminate",
      "DeadlineExceeded",
      "LeaseNotFound",
      "Compacted"
    ])
    const isLost = ({ ended }: (typeof all)[number]["holdings"][number]) => ended?.how === "Lost"
    for (const profile of ["lossy", "brutal"]) {
      const lost = runs.filter((run) => run.faultProfile === profile).flatMap(({ history }) =>
        history.holdings.filter(isLost)
      )
      assert.isAbove(lost.length, 20, `locks are lost with the fault profile ${profile}`)
    }
    const isRejected = ({ outcome }: (typeof all)[number]["effects"][number]) => outcome === "Rejected"
    assert.isAbove(all.flatMap(({ effects }) => effects.filter(isRejected)).length, 0, "the fence rejects writes")
  }, 120_000)

  it("runs of different seeds differ", () => {
    assert.strictEqual(new Set(seedsOf(0, 30).map((seed) => run(seed).trace())).size, 30)
  })
})

describe.skipIf(replayed !== undefined)("within 600 runs the simulation finds a client that", () => {
  for (const { as, between, title } of simulatedMutants) {
    it(as === undefined ? title : `${title}, as ${as}`, () => {
      const isFound = (seed: number) =>
        run(seed, between).violations.some(({ kind }) => as === undefined || kind === as)
      assert.isTrue(seedsOf(0, 600).some(isFound), "no violation was found")
    }, 60_000)
  }
})
