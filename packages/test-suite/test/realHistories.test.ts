/**
 * The checkers accept histories of real stores. `corruptions.test.ts` tests that they reject corrupted ones.
 */
import {
  History,
  LinearizabilityChecker,
  LockChecker,
  RevisionChecker,
  Violation,
  WatchChecker
} from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as goodHistories from "./goodHistories.ts"

const seeds = Array.from({ length: Number(process.env["EFFECT_KV_HISTORIES"] ?? 16) }, (_, i) => i)

const accepted = (history: History.History, violations: ReadonlyArray<Violation.Violation>) =>
  assert.deepStrictEqual(violations, [], Violation.print(history, violations))

const readUpTo = (run: goodHistories.Run) => (watch: History.WatchCall) =>
  watch.client.startsWith("watcher") ? run.revision : undefined

const locksOf = (run: goodHistories.Run): LockChecker.Options => ({
  counts: { "w/counter": run.count },
  changes: run.changes
})

describe("histories of real runs in memory", () => {
  for (const seed of seeds) {
    it.effect(`a real history has no violation by revision, in watches and in locks, also after saving and loading (seed ${seed})`, () =>
      Effect.gen(function*() {
        const run = yield* goodHistories.ofSeed(seed)
        const { changes, history } = run
        const report = RevisionChecker.check(history, changes)
        accepted(history, report.violations)
        accepted(history, WatchChecker.check(history, changes, { readUpTo: readUpTo(run) }))
        accepted(history, LockChecker.check(history, locksOf(run)))
        const loaded = yield* History.fromText(History.toText(history))
        assert.deepStrictEqual(loaded, history)
        assert.deepStrictEqual(RevisionChecker.check(loaded, changes), report)
      }))
  }

  for (const seed of seeds) {
    it.effect(`a real history is linearizable by its responses alone (seed ${seed})`, () =>
      Effect.gen(function*() {
        const { history } = yield* goodHistories.smallOfSeed(seed)
        accepted(history, LinearizabilityChecker.check(history))
      }))
  }

  it.effect("the real histories contain the cases that are hard to check", () =>
    Effect.gen(function*() {
      const runs = yield* Effect.forEach([0, 1, 2, 3, 4, 5, 6, 7], goodHistories.ofSeed)
      const reports = runs.map((run) => RevisionChecker.check(run.history, run.changes))
      const tags = new Set(runs.flatMap((run) => run.history.calls.map((call) => call.outcome._tag)))
      assert.includeMembers([...tags], ["Responded", "Failed", "Interrupted"])
      assert.isAbove(reports.flatMap((report) => report.unknown.applied).length, 10)
      assert.isAbove(reports.flatMap((report) => report.unknown.notApplied).length, 10)
      assert.isAbove(runs.flatMap((run) => run.history.holdings).length, 20)
      const [unbatched, batched] = [0, 1].map((odd) =>
        runs.filter((_, i) => i % 2 === odd).reduce((sum, run) => sum + sharedRevisions(run.history), 0)
      )
      assert.isAbove(batched!, 5, "no writes share a revision in batched histories")
      assert.strictEqual(unbatched, 0)
    }))
})

/** How many revisions contain the puts of several calls. */
const sharedRevisions = (history: History.History): number => {
  const revisions = new Map<bigint, number>()
  for (const call of history.calls) {
    if (call.outcome._tag !== "Responded" || call.outcome.response._tag !== "Put") continue
    const { revision } = call.outcome.response
    revisions.set(revision, (revisions.get(revision) ?? 0) + 1)
  }
  return [...revisions.values()].filter((calls) => calls > 1).length
}
