/**
 * `LockChecker` on small histories that are written by hand.
 */
import { type History, LockChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import { gone, kinds, moment, row, type Span, written } from "./smallHistories.ts"

describe("LockChecker", () => {
  const effect = (
    id: number,
    token: bigint,
    outcome: History.FencedEffect["outcome"],
    [from, to]: Span,
    revision?: bigint
  ): History.FencedEffect => ({
    _tag: "Effect",
    id,
    client: "a",
    lock: "x",
    token,
    resource: "counter",
    invoked: moment(from),
    completed: moment(to),
    outcome,
    ...(revision === undefined ? {} : { revision })
  })

  const holding = (token: bigint, from: number, to: number, how: "Released" | "Lost"): History.Holding => ({
    _tag: "Holding",
    id: Number(token),
    client: "a",
    lock: "x",
    token,
    acquired: moment(from),
    ended: { at: moment(to), how }
  })

  it("revisions give the order of concurrent effects", () => {
    const holdings = [holding(1n, 0, 2, "Lost"), holding(2n, 3, 20, "Released")]
    const check = (first: bigint | undefined, second: bigint | undefined) =>
      kinds(LockChecker.check({
        effects: [effect(10, 1n, "Accepted", [1, 9], first), effect(11, 2n, "Accepted", [4, 8], second)],
        holdings
      }))
    assert.deepStrictEqual(check(undefined, undefined), [])
    assert.deepStrictEqual(check(5n, 6n), [])
    assert.deepStrictEqual(check(6n, 5n), ["StaleEffect"])
  })

  it("a loss may be noticed late within the tolerance, a release may not", () => {
    const check = (how: "Released" | "Lost", lateLossNanos?: bigint) =>
      kinds(LockChecker.check(
        { effects: [], holdings: [holding(1n, 0, 5, how), holding(2n, 3, 9, "Released")] },
        { lateLossNanos }
      ))
    assert.deepStrictEqual(check("Lost"), ["OverlappingHolders"])
    assert.deepStrictEqual(check("Lost", 1_000_000n), ["OverlappingHolders"])
    assert.deepStrictEqual(check("Lost", 2_000_000n), [])
    assert.deepStrictEqual(check("Released", 2_000_000n), ["OverlappingHolders"])
  })

  it("effects of unknown outcome count as applied or not applied", () => {
    const effects = [
      effect(12, 1n, "Accepted", [2, 3]),
      effect(14, 1n, "Unknown", [4, 5]),
      effect(16, 1n, "Rejected", [6, 7])
    ]
    const check = (counter: number) =>
      kinds(LockChecker.check({ effects, holdings: [holding(1n, 0, 9, "Released")] }, { counts: { counter } }))
    assert.deepStrictEqual([0, 1, 2, 3].map((count) => check(count).length), [1, 0, 0, 1])
  })

  it("the oldest key under the name of a lock is the holder's, until its deletion", () => {
    const [mine, next] = [row("x/1", "", 2n), row("x/2", "", 3n)]
    const changes = [written(mine), written(next), gone("x/1", 5n), written(row("counter", "1", 5n))]
    const holdings = [holding(2n, 0, 2, "Lost"), holding(3n, 3, 20, "Released")]
    const check = (token: bigint, revision: bigint) =>
      kinds(LockChecker.check({ effects: [effect(10, token, "Accepted", [4, 5], revision)], holdings }, { changes }))
    assert.deepStrictEqual(check(2n, 4n), [])
    assert.deepStrictEqual(check(2n, 5n), [])
    assert.deepStrictEqual(check(2n, 6n), ["EffectWithoutLock"])
    assert.deepStrictEqual(check(3n, 5n), ["EffectWithoutLock"])
    assert.deepStrictEqual(check(3n, 6n), [])
  })

  it("a token must be larger than all before, not only than the last one", () => {
    const holdings = [holding(5n, 0, 1, "Released"), holding(3n, 2, 3, "Released"), holding(4n, 4, 5, "Released")]
    assert.deepStrictEqual(kinds(LockChecker.check({ effects: [], holdings })), ["TokenOrder", "TokenOrder"])
  })
})
