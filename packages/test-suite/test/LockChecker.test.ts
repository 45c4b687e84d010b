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

  describe("what can be shared", () => {
    const shared = (
      token: bigint,
      share: History.Share,
      [from, to]: Span,
      how: "Released" | "Lost" = "Released"
    ): History.Holding => ({ ...holding(token, from, to, how), share })
    const permits = (permits: number): History.Share => ({ _tag: "Permits", permits })
    const read: History.Share = { _tag: "Read" }
    const write: History.Share = { _tag: "Write" }

    it("never more permits are held than the semaphore has", () => {
      const check = (...holdings: ReadonlyArray<History.Holding>) =>
        kinds(LockChecker.check({ effects: [], holdings }, { permits: { x: 3 } }))
      assert.deepStrictEqual(check(shared(1n, permits(2), [0, 5]), shared(2n, permits(1), [1, 4])), [])
      assert.deepStrictEqual(check(shared(1n, permits(2), [0, 5]), shared(2n, permits(2), [6, 7])), [])
      assert.deepStrictEqual(check(shared(1n, permits(2), [0, 5]), shared(2n, permits(2), [4, 7])), ["TooManyPermits"])
      assert.deepStrictEqual(check(shared(1n, permits(4), [0, 5])), ["TooManyPermits"])
      // The younger of two that are admitted at once may learn of it first.
      assert.deepStrictEqual(check(shared(2n, permits(1), [0, 5]), shared(1n, permits(1), [1, 4])), [])
    })

    it("readers overlap, and a writer overlaps no other holder", () => {
      const check = (...holdings: ReadonlyArray<History.Holding>) => kinds(LockChecker.check({ effects: [], holdings }))
      assert.deepStrictEqual(check(shared(2n, read, [0, 5]), shared(1n, read, [1, 4])), [])
      assert.deepStrictEqual(check(shared(1n, read, [0, 5]), shared(2n, write, [6, 7])), [])
      assert.deepStrictEqual(check(shared(1n, read, [0, 5]), shared(2n, write, [4, 7])), ["OverlappingHolders"])
      assert.deepStrictEqual(check(shared(1n, write, [0, 5]), shared(2n, read, [4, 7])), ["OverlappingHolders"])
      assert.deepStrictEqual(check(shared(1n, write, [0, 5]), shared(2n, write, [4, 7])), ["OverlappingHolders"])
      assert.deepStrictEqual(check(shared(2n, write, [0, 3]), shared(1n, read, [4, 7])), ["TokenOrder"])
      assert.deepStrictEqual(check(shared(2n, read, [0, 3]), shared(1n, write, [4, 7])), ["TokenOrder"])
    })

    it("an effect is accepted only if the rule of the queue admits its token then", () => {
      const put = (key: string, value: string, revision: bigint) => written(row(key, value, revision))
      const check = (
        share: History.Share,
        token: bigint,
        revision: bigint,
        changes: ReadonlyArray<ReturnType<typeof put>>
      ) =>
        kinds(LockChecker.check(
          { effects: [effect(10, token, "Accepted", [4, 5], revision)], holdings: [shared(token, share, [0, 9])] },
          { changes, permits: { x: 3 } }
        ))
      const queue = [
        put("x/permits/limit", "3", 1n),
        put("x/permits/a", "2 somebody", 2n),
        put("x/permits/b", "1", 3n),
        put("x/permits/c", "1", 4n),
        gone("x/permits/a", 6n)
      ]
      assert.deepStrictEqual(check(permits(1), 3n, 5n, queue), [])
      assert.deepStrictEqual(check(permits(1), 4n, 5n, queue), ["EffectWithoutLock"])
      assert.deepStrictEqual(check(permits(1), 4n, 7n, queue), [])
      assert.deepStrictEqual(check(permits(2), 2n, 7n, queue), ["EffectWithoutLock"])

      const readersAndWriter = [
        put("x/read/a", "", 2n),
        put("x/write/b", "", 3n),
        put("x/read/c", "", 4n),
        gone("x/read/a", 6n),
        gone("x/write/b", 8n)
      ]
      assert.deepStrictEqual(check(read, 2n, 5n, readersAndWriter), [])
      assert.deepStrictEqual(check(read, 4n, 5n, readersAndWriter), ["EffectWithoutLock"])
      assert.deepStrictEqual(check(write, 3n, 5n, readersAndWriter), ["EffectWithoutLock"])
      assert.deepStrictEqual(check(write, 3n, 7n, readersAndWriter), [])
      assert.deepStrictEqual(check(read, 4n, 9n, readersAndWriter), [])
    })
  })
})
