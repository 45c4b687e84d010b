/**
 * The identity of a store: which responses show that the store was replaced, and which may lag.
 */
import { assert, describe, it } from "@effect/vitest"
import { type Order, Replaced, StoreIdentity } from "../src/internal/store/storeIdentity.ts"

const a = "http://a:2379"
const b = "http://b:2379"

const at = (revision: number, clusterId = 1n) => ({ clusterId, memberId: 1n, revision: BigInt(revision) })

/** An identity that has seen revision 10 of cluster 1 at endpoint a, and the list of its reports. */
const known = () => {
  const identity = new StoreIdentity()
  const reported: Array<string> = []
  identity.onReplaced(({ message }, isNews) => reported.push(`${isNews ? "" : "again: "}${message}`))
  identity.observe(at(10), identity.sent(), a, "Linearizable")
  return { identity, reported }
}

describe("the identity of a store", () => {
  it("a linearizable response below the revision known before its request shows that the store went back", () => {
    const { identity, reported } = known()
    assert.instanceOf(identity.observe(at(9), identity.sent(), a, "Linearizable"), Replaced)
    assert.strictEqual(reported.length, 1)
    assert.include(reported[0], "http://a:2379 is at revision 9, and the store was at revision 10 before")
    assert.strictEqual(identity.observe(at(9), identity.sent(), a, "Linearizable"), "Same")
  })

  it("a response may be below a revision that became known after its request was sent", () => {
    const { identity, reported } = known()
    const sent = identity.sent()
    identity.observe(at(20), identity.sent(), a, "Linearizable")
    assert.strictEqual(identity.observe(at(10), sent, b, "Linearizable"), "Same")
    assert.deepStrictEqual(reported, [])
  })

  it("a member that lags does not count as a store that went back", () => {
    const { identity, reported } = known()
    assert.strictEqual(identity.observe(at(3), identity.sent(), b, "Member"), "Behind")
    assert.strictEqual(identity.observe(at(3), identity.sent(), b, "Stale"), "Same")
    assert.deepStrictEqual(reported, [])
  })

  for (const order of ["Linearizable", "Member", "Stale"] satisfies ReadonlyArray<Order>) {
    it(`a response from another cluster is detected whatever its revision (${order})`, () => {
      const { identity, reported } = known()
      assert.instanceOf(identity.observe(at(99, 0xabcn), identity.sent(), a, order), Replaced)
      assert.include(reported[0], "http://a:2379 leads to cluster abc, and led to cluster 1 before")
    })
  }

  it("two endpoints of different clusters are named, and reported once more when the first comes back, but not indefinitely", () => {
    const { identity, reported } = known()
    for (let i = 0; i < 4; i++) {
      identity.observe(at(10, 2n), identity.sent(), b, "Linearizable")
      identity.observe(at(10, 1n), identity.sent(), a, "Linearizable")
    }
    const news = reported.filter((message) => !message.startsWith("again: "))
    assert.lengthOf(news, 2)
    assert.include(news[0], "http://b:2379 leads to cluster 2, and http://a:2379 to cluster 1")
    assert.include(news[1], "must be members of one cluster")
    assert.lengthOf(reported, 8)
  })

  it("a response in flight during a replacement belongs to no certain store, and reports nothing again", () => {
    const { identity, reported } = known()
    const sent = identity.sent()
    identity.observe(at(4), identity.sent(), a, "Linearizable")
    for (const revision of [3, 5, 11]) {
      assert.instanceOf(identity.observe(at(revision), sent, a, "Linearizable"), Replaced)
    }
    assert.strictEqual(identity.sent().revision, 4n)
    assert.lengthOf(reported, 1)
  })

  it("a response without a cluster or a revision proves nothing", () => {
    const { identity, reported } = known()
    assert.strictEqual(identity.observe(at(0, 0n), identity.sent(), a, "Linearizable"), "Same")
    assert.strictEqual(identity.observe(at(11, 0n), identity.sent(), a, "Linearizable"), "Same")
    assert.strictEqual(identity.sent().revision, 11n)
    assert.deepStrictEqual(reported, [])
  })
})
