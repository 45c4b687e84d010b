/**
 * `LinearizabilityChecker` on small histories that are written by hand, close to the border between right and wrong.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import { type History, LinearizabilityChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import { type CallAt, history, keptAlive, kinds, put, read, row, txn } from "./smallHistories.ts"

describe("LinearizabilityChecker", () => {
  const kindsOf = (...calls: ReadonlyArray<CallAt>) => kinds(LinearizabilityChecker.check(history(...calls)))

  it("overlapping calls may take effect in either order, others may not", () => {
    const first = [[0, 3], Op.put("a", "1"), put(2n)] as const
    const before = read(1n)
    assert.deepStrictEqual(kindsOf(first, [[1, 2], Op.get("a"), before]), [])
    assert.deepStrictEqual(kindsOf(first, [[4, 5], Op.get("a"), before]), ["NotLinearizable"])
  })

  it("a write of unknown outcome may take effect late or never, but only once and after its invocation", () => {
    const lost = [[0, 1], Op.put("a", "1"), "unknown"] as const
    const [none, some] = [read(1n), read(2n, row("a", "1", 2n))]
    assert.deepStrictEqual(kindsOf(lost, [[2, 3], Op.get("a"), none]), [])
    assert.deepStrictEqual(kindsOf(lost, [[2, 3], Op.get("a"), none], [[4, 5], Op.get("a"), some]), [])
    assert.deepStrictEqual(kindsOf(lost, [[2, 3], Op.get("a"), some], [[4, 5], Op.get("a"), none]), ["NotLinearizable"])
    assert.deepStrictEqual(kindsOf([[4, 5], Op.put("a", "1"), "unknown"], [[2, 3], Op.get("a"), some]), [
      "NotLinearizable"
    ])
    const twice = read(3n, row("a", "1", 3n, 2, 2n))
    assert.deepStrictEqual(kindsOf(lost, [[2, 3], Op.get("a"), twice]), ["NotLinearizable"])
  })

  it("a rejected write has no effect", () => {
    const some = read(2n, row("a", "1", 2n))
    assert.deepStrictEqual(kindsOf([[0, 1], Op.put("a", "1"), "not applied"], [[2, 3], Op.get("a"), some]), [
      "NotLinearizable"
    ])
  })

  it("a keysOnly read is not taken for a read of empty values", () => {
    const keys = read(3n, row("a", "", 2n))
    const values = read(3n, row("a", "1", 2n))
    assert.deepStrictEqual(
      kindsOf(
        [[0, 1], Op.put("a", ""), "unknown"],
        [[2, 3], Op.put("a", "1"), put(2n)],
        [[4, 5], Op.get("a", { keysOnly: true }), keys],
        [[6, 7], Op.get("a"), values]
      ),
      []
    )
  })

  it("transactions over several keys take effect as a whole", () => {
    const both = Op.txn({ then: [Op.put("a", "1"), Op.put("b", "1")] })
    const write = [[0, 9], both, txn(2n, true, put(2n), put(2n))] as const
    const [a, none] = [read(2n, row("a", "1", 2n)), read(2n)]
    assert.deepStrictEqual(kindsOf(write, [[1, 2], Op.get("b"), none], [[3, 4], Op.get("a"), a]), [])
    assert.deepStrictEqual(kindsOf(write, [[1, 2], Op.get("a"), a], [[3, 4], Op.get("b"), none]), ["NotLinearizable"])
  })

  it("two creations of a missing key cannot both succeed", () => {
    const create = (value: string) => Op.txn({ if: [Compare.missing("a")], then: [Op.put("a", value)] })
    assert.deepStrictEqual(
      kindsOf([[0, 3], create("1"), txn(2n, true, put(2n))], [[1, 2], create("2"), txn(3n, true, put(3n))]),
      ["NotLinearizable"]
    )
  })

  it("a key may vanish with its lease, but not while the lease is found alive", () => {
    const lease = 7n
    const attached = [[0, 1], Op.put("a", "1", { lease }), put(2n)] as const
    const vanished = history(attached, [[2, 3], Op.get("a"), read(3n)])
    assert.deepStrictEqual(LinearizabilityChecker.check(vanished), [])
    const alive = keptAlive(lease, 4)
    const checked = LinearizabilityChecker.check({ calls: [...vanished.calls, alive] })
    assert.deepStrictEqual(kinds(checked), ["NotLinearizable"])
  })

  it("serializable reads and reads at past revisions are not checked", () => {
    const write = [[0, 1], Op.put("a", "1"), put(2n)] as const
    const before = read(2n)
    assert.deepStrictEqual(kindsOf(write, [[2, 3], Op.get("a", { serializable: true }), before]), [])
    assert.deepStrictEqual(kindsOf(write, [[2, 3], Op.get("a", { revision: 1n }), before]), [])
  })

  it("a write of unknown outcome takes effect at one revision", () => {
    const lost = [[0, 1], Op.put("a", "1"), "unknown"] as const
    const at = (revision: bigint) => read(revision, row("a", "1", revision))
    assert.deepStrictEqual(kindsOf(lost, [[2, 3], Op.get("a"), at(3n)], [[4, 5], Op.get("a"), at(3n)]), [])
    assert.deepStrictEqual(kindsOf(lost, [[2, 3], Op.get("a"), at(3n)], [[4, 5], Op.get("a"), at(4n)]), [
      "NotLinearizable"
    ])
  })

  it("an initial entry may vanish with its lease, but not without a lease", () => {
    const { calls } = history([[0, 1], Op.range(KeyRange.all), read(5n)])
    const leased = { ...row("a", "0", 5n), lease: 7n }
    assert.deepStrictEqual(LinearizabilityChecker.check({ calls }, { initial: [leased] }), [])
    assert.deepStrictEqual(kinds(LinearizabilityChecker.check({ calls }, { initial: [row("a", "0", 5n)] })), [
      "NotLinearizable"
    ])
  })

  it("the check starts with the initial entries", () => {
    const { calls } = history([[0, 1], Op.range(KeyRange.all), read(5n, row("a", "0", 5n))])
    assert.deepStrictEqual(LinearizabilityChecker.check({ calls }, { initial: [row("a", "0", 5n)] }), [])
    assert.deepStrictEqual(kinds(LinearizabilityChecker.check({ calls })), ["NotLinearizable"])
  })

  it("an observed value does not show which of two equal writes took effect", () => {
    const some = read(2n, row("a", "1", 2n))
    assert.deepStrictEqual(
      kindsOf(
        [[0, 1], Op.put("a", "1"), "unknown"],
        [[0, 1], Op.txn({ then: [Op.put("a", "1"), Op.put("b", "1")] }), "unknown"],
        [[2, 3], Op.get("a"), some],
        [[4, 5], Op.get("b"), read(2n)]
      ),
      []
    )
  })

  it("a key of unknown create revision is known to exist", () => {
    const lost = [[0, 1], Op.put("a", "1"), "unknown"] as const
    const there = [[2, 3], Op.get("a", { keysOnly: true }), read(2n, row("a", "", 2n))] as const
    const kindsIf = (condition: Compare.Compare) =>
      kindsOf(lost, there, [[4, 5], Op.txn({ if: [condition], then: [Op.get("b")] }), txn(2n, true, read(2n))])
    assert.deepStrictEqual(kindsIf(Compare.exists("a")), [])
    assert.deepStrictEqual(kindsIf(Compare.modRevision("a", "=", 2n)), [])
    assert.deepStrictEqual(kindsIf(Compare.missing("a")), ["NotLinearizable"])
    assert.deepStrictEqual(kindsIf(Compare.modRevision("a", "<", 2n)), ["NotLinearizable"])
  })

  it("a put with a revoked lease cannot succeed", () => {
    const lease = 7n
    const revoked: History.Call = {
      ...keptAlive(lease, 2),
      request: { _tag: "LeaseRevoke", id: lease },
      outcome: { _tag: "Responded", response: { _tag: "LeaseRevoked" } }
    }
    const { calls } = history(
      [[0, 1], Op.put("a", "1", { lease }), put(2n)],
      [[4, 5], Op.put("b", "1", { lease }), put(4n)]
    )
    assert.deepStrictEqual(kinds(LinearizabilityChecker.check({ calls: [...calls, revoked] })), ["NotLinearizable"])
    assert.deepStrictEqual(LinearizabilityChecker.check({ calls }), [])
  })

  it("a revocation of unknown outcome may end a lease or not", () => {
    const lease = 7n
    const { calls } = history(
      [[0, 1], Op.put("a", "1", { lease }), put(2n)],
      [[4, 5], Op.get("a"), read(3n)],
      [[6, 7], Op.put("b", "1", { lease }), put(4n)]
    )
    const lost: History.Call = {
      ...keptAlive(lease, 2),
      request: { _tag: "LeaseRevoke", id: lease },
      outcome: { _tag: "Interrupted" }
    }
    const kindsOf = (calls: ReadonlyArray<History.Call>) => kinds(LinearizabilityChecker.check({ calls }))
    assert.deepStrictEqual(kindsOf([calls[0]!, lost, calls[1]!]), [])
    assert.deepStrictEqual(kindsOf([calls[0]!, lost, calls[2]!]), [])
    assert.deepStrictEqual(kindsOf([...calls, lost]), ["NotLinearizable"])
  })
})
