/**
 * `RevisionChecker` on writes of unknown outcome: which call it finds for a change, in small histories that are written by hand.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import { type Changes, RevisionChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import { type CallAt, deleted, gone, history, kinds, put, row, written } from "./smallHistories.ts"

const check = (changes: ReadonlyArray<Changes.Change>, ...calls: ReadonlyArray<CallAt>) =>
  RevisionChecker.check(history(...calls), changes)

const a = [[0, 1], Op.put("a", "1"), put(2n)] as const
const b = [[2, 3], Op.put("b", "1"), put(3n)] as const
const both = [written(row("a", "1", 2n)), written(row("b", "1", 3n))]

describe("RevisionChecker, attribution of changes", () => {
  it("deletes of single keys claim their keys before deletes of ranges, in any order", () => {
    const { violations } = check(
      [...both, gone("a", 4n), gone("b", 4n)],
      a,
      b,
      [[4, 9], Op.deleteRange(KeyRange.all), deleted(4n, 1)],
      [[4, 9], Op.delete("a"), deleted(4n, 1)]
    )
    assert.deepStrictEqual(violations, [])
  })

  it("a delete of a range gets the keys it reports, then those that no other call can have deleted", () => {
    const changes = [...both, gone("a", 4n), gone("b", 4n)]
    const lost = [[4, 9], Op.delete("a"), "unknown"] as const
    const silent = check(changes, a, b, [[4, 9], Op.deleteRange(KeyRange.all), deleted(4n, 1)], lost)
    assert.deepStrictEqual(silent.violations, [])
    assert.deepStrictEqual(silent.unknown.applied, [3])
    const all = Op.deleteRange(KeyRange.all, { previous: true })
    const confirmed = (key: string, revision: bigint) =>
      check(changes, a, b, [[4, 9], all, deleted(4n, 1, row(key, "1", revision))], lost)
    assert.deepStrictEqual(confirmed("b", 3n).violations, [])
    assert.isNotEmpty(confirmed("a", 2n).violations)
  })

  it("one call of unknown outcome that explains all changes is preferred to several", () => {
    const { unknown, violations } = check(
      [...both, gone("a", 4n), gone("b", 4n)],
      a,
      b,
      [[4, 5], Op.delete("a"), "unknown"],
      [[4, 5], Op.delete("b"), "unknown"],
      [[4, 5], Op.txn({ then: [Op.delete("a"), Op.delete("b")] }), "unknown"]
    )
    assert.deepStrictEqual(violations, [])
    assert.deepStrictEqual(unknown, { applied: [4], notApplied: [2, 3] })
  })

  it("of two ranges the one that can explain fewer changes is used first", () => {
    const wide = [[4, 5], Op.deleteRange(KeyRange.from("a")), "unknown"] as const
    const narrow = [[4, 5], Op.deleteRange(KeyRange.from("b")), "unknown"] as const
    for (const deletes of [[wide, narrow], [narrow, wide]]) {
      const { violations } = check(
        [
          written(row("b", "1", 3n)),
          gone("b", 4n),
          written(row("a", "1", 5n)),
          written(row("b", "2", 6n)),
          gone("a", 7n),
          gone("b", 7n)
        ],
        b,
        ...deletes,
        [[6, 7], Op.put("a", "1"), put(5n)],
        [[8, 9], Op.put("b", "2"), put(6n)]
      )
      assert.deepStrictEqual(violations, [])
    }
  })

  it("a call that was used earlier is replaced there if only it can explain a later change", () => {
    const narrow = [[4, 9], Op.delete("a"), "unknown"] as const
    const wide = [[4, 9], Op.deleteRange(KeyRange.all), "unknown"] as const
    for (const deletes of [[narrow, wide], [wide, narrow]]) {
      const { unknown, violations } = check(
        [
          written(row("a", "1", 2n)),
          gone("a", 3n),
          written(row("b", "1", 4n)),
          written(row("a", "2", 5n)),
          gone("a", 6n)
        ],
        a,
        ...deletes,
        [[4, 5], Op.put("b", "1"), put(4n)],
        [[6, 7], Op.put("a", "2"), put(5n)]
      )
      assert.deepStrictEqual(violations, [])
      assert.deepStrictEqual(unknown, { applied: [1, 2], notApplied: [] })
    }
  })

  it("one call of unknown outcome explains one of two changes, not both", () => {
    const { violations } = check(
      [written(row("a", "1", 2n)), gone("a", 3n), written(row("a", "2", 4n)), gone("a", 5n)],
      a,
      [[4, 9], Op.delete("a"), "unknown"],
      [[6, 7], Op.put("a", "2"), put(4n)]
    )
    assert.deepStrictEqual(kinds(violations), ["PhantomWrite"])
  })

  it("a call with conditions is used while they hold, and the one without when they do not", () => {
    const { unknown, violations } = check(
      [...both, gone("a", 4n), gone("b", 5n), written(row("a", "2", 6n)), gone("a", 7n)],
      a,
      b,
      [[4, 5], Op.delete("a"), "unknown"],
      [[4, 5], Op.txn({ if: [Compare.exists("b")], then: [Op.delete("a")] }), "unknown"],
      [[6, 7], Op.delete("b"), deleted(5n, 1)],
      [[8, 9], Op.put("a", "2"), put(6n)]
    )
    assert.deepStrictEqual(violations, [])
    assert.deepStrictEqual(unknown, { applied: [2, 3], notApplied: [] })
  })

  it("deletes at the revision of a call are not the end of a lease", () => {
    const lease = 7n
    const leased = ["a", "b"].map((key, i) => written({ ...row(key, "1", BigInt(i + 2)), lease }))
    const puts = ["a", "b"].map((key, i): CallAt => [
      [2 * i, 2 * i + 1],
      Op.put(key, "1", { lease }),
      put(BigInt(i + 2))
    ])
    const { violations } = check([...leased, gone("a", 4n), gone("b", 4n)], ...puts, [
      [4, 5],
      Op.delete("a"),
      deleted(4n, 1)
    ])
    assert.deepStrictEqual(kinds(violations), ["PhantomWrite"])
  })

  it("deletes are not the end of a lease that is used later", () => {
    const lease = 7n
    const changes = [
      written({ ...row("a", "1", 2n), lease }),
      gone("a", 3n),
      written({ ...row("b", "1", 4n), lease })
    ]
    const { violations } = check(
      changes,
      [[0, 1], Op.put("a", "1", { lease }), put(2n)],
      [[4, 5], Op.put("b", "1", { lease }), put(4n)]
    )
    assert.deepStrictEqual(kinds(violations), ["PhantomWrite"])
  })
})
