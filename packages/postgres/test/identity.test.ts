/**
 * What a client concludes from the positions in responses, whatever order they arrive in.
 */
import { assert, describe, it } from "@effect/vitest"
import { Identity, type Lineage, type Position } from "../src/internal/identity.ts"

const at = (epoch: bigint, revision: bigint): Position => ({ epoch, revision })

const known = (...positions: ReadonlyArray<Position>): Identity => {
  const identity = new Identity()
  for (const position of positions) assert.isUndefined(identity.observe(position, identity.sent, "read"))
  return identity
}

const holdsAll = (now: Position): Lineage => ({ now, holdsKnown: true, holdsSeen: true })

describe("Identity", () => {
  it("does not forget a confirmed write that the store was not asked about", () => {
    const identity = known(at(0n, 100n))
    const { sent } = identity
    const seen = at(1n, 103n)
    assert.strictEqual(identity.observe(seen, sent, "read"), "Unknown")
    const asked = identity.sent
    // A write that the old primary has confirmed, and that the new one does not have.
    assert.isUndefined(identity.observe(at(0n, 105n), sent, "write"))
    const call = { seen, sent, asked, kind: "read" } as const
    assert.strictEqual(identity.settle(holdsAll(at(1n, 103n)), call), "Unknown")
    const lost = identity.settle(
      { now: at(1n, 103n), holdsKnown: false, holdsSeen: true },
      { ...call, asked: identity.sent }
    )
    assert.strictEqual(typeof lost === "object" ? lost.reason._tag : lost, "StoreReplaced")
    assert.strictEqual(identity.sent.generation, 1)
  })

  it("accepts a slow read of the epoch in which it was sent", () => {
    const identity = known(at(0n, 100n))
    const slow = identity.sent
    const write = { seen: at(1n, 101n), sent: slow, asked: slow, kind: "write" } as const
    assert.strictEqual(identity.observe(write.seen, slow, "write"), "Unknown")
    assert.isUndefined(identity.settle(holdsAll(at(1n, 101n)), write))
    const read = { seen: at(0n, 100n), sent: slow, asked: identity.sent, kind: "read" } as const
    assert.strictEqual(identity.observe(read.seen, slow, "read"), "Unknown")
    assert.isUndefined(identity.settle(holdsAll(at(1n, 101n)), read))
  })

  it("rejects a read of an earlier epoch that was sent after a later one was known, and keeps the greatest revision", () => {
    const identity = known(at(1n, 101n))
    const { sent } = identity
    assert.isUndefined(identity.observe(at(1n, 110n), sent, "write"))
    const read = { seen: at(0n, 100n), sent, asked: sent, kind: "read" } as const
    assert.strictEqual(identity.observe(read.seen, sent, "read"), "Unknown")
    const error = identity.settle(holdsAll(at(1n, 105n)), read)
    assert.strictEqual(typeof error === "object" ? error.reason._tag : error, "Unavailable")
    assert.deepStrictEqual(identity.sent, { generation: 0, epoch: 1n, revision: 110n })
  })

  it("tells calls in flight that the store was replaced", () => {
    const identity = known(at(0n, 100n))
    const { generation } = identity.sent
    assert.isUndefined(identity.replacedSince(generation, "Unknown"))
    assert.isDefined(identity.observe(at(0n, 90n), identity.sent, "read"))
    const error = identity.replacedSince(generation, "Unknown")
    assert.strictEqual(error?.reason._tag, "StoreReplaced")
    assert.strictEqual(error?.outcome, "Unknown")
  })
})
