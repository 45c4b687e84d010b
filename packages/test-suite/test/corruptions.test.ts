/**
 * Corrupted histories: good histories with one defect each, which a checker must find.
 */
import {
  type History,
  LinearizabilityChecker,
  LockChecker,
  RevisionChecker,
  Violation,
  WatchChecker
} from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as locks from "./corruptions/locks.ts"
import * as orders from "./corruptions/orders.ts"
import { type Corrupt, Pick } from "./corruptions/pick.ts"
import * as responses from "./corruptions/responses.ts"
import * as revisions from "./corruptions/revisions.ts"
import * as watches from "./corruptions/watches.ts"
import * as goodHistories from "./goodHistories.ts"

/** Makes the histories once for all tests of a checker. */
const memo = (make: (seed: number) => Effect.Effect<goodHistories.Run>) => {
  const runs = new Map<number, goodHistories.Run>()
  return Effect.fnUntraced(function*(seed: number) {
    const run = runs.get(seed) ?? (yield* make(seed))
    runs.set(seed, run)
    return run
  })
}

const mixed = memo(goodHistories.ofSeed)

/** With few concurrent calls, so that all orders can be searched within the budget. */
const small = memo(goodHistories.smallOfSeed)

const seeds = Array.from({ length: 8 }, (_, i) => 300 + i)

interface Corruption {
  readonly title: string
  readonly corrupt: Corrupt
  readonly found: ReadonlyArray<string>
}

const noticesAll = (
  checker: string,
  corruptions: ReadonlyArray<Corruption>,
  history: typeof mixed,
  check: (run: goodHistories.Run) => ReadonlyArray<Violation.Violation>
) => {
  describe(checker, () => {
    for (const { corrupt, found, title } of corruptions) {
      it.effect(`${checker} notices when ${title}`, () =>
        Effect.gen(function*() {
          let corrupted = 0
          for (const seed of seeds) {
            const good = yield* history(seed)
            const bad = corrupt(good, new Pick(seed))
            if (bad === undefined) continue
            corrupted++
            const violations = check(bad)
            assert.isTrue(
              violations.some((violation) => found.includes(violation.kind) && violation.message !== ""),
              `seed ${seed}: looked for ${found.join(" or ")}, found ${Violation.print(bad.history, violations)}`
            )
          }
          assert.isAtLeast(corrupted, 3, "too few histories could be corrupted so")
        }))
    }
  })
}

noticesAll(
  "RevisionChecker",
  [...revisions.corruptions, ...responses.corruptions],
  mixed,
  ({ changes, history }) => RevisionChecker.check(history, changes).violations
)

noticesAll(
  "WatchChecker",
  watches.corruptions,
  mixed,
  ({ changes, history, revision }) =>
    WatchChecker.check(history, changes, {
      readUpTo: (watch: History.WatchCall) => watch.client.startsWith("watcher") ? revision : undefined
    })
)

noticesAll(
  "LockChecker",
  locks.corruptions,
  mixed,
  ({ changes, count, history }) => LockChecker.check(history, { counts: { "w/counter": count }, changes })
)

noticesAll(
  "LinearizabilityChecker",
  orders.corruptions,
  small,
  ({ history }) => LinearizabilityChecker.check(history)
)

describe("the budget of a checker", () => {
  it.effect("a checker that exhausts its budget reports it, whether the history is good or bad", () =>
    Effect.gen(function*() {
      const { changes, history } = yield* mixed(seeds[1]!)
      const kinds = (violations: ReadonlyArray<Violation.Violation>) => new Set(violations.map(({ kind }) => kind))
      assert.include([...kinds(LinearizabilityChecker.check(history, { budget: 5 }))], "OutOfBudget")
      assert.include([...kinds(RevisionChecker.check(history, changes, { budget: 0 }).violations)], "OutOfBudget")
    }))
})
