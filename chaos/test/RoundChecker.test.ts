/**
 * What the round checker excuses and what it does not. Only as many early ends of leases are etcd's fault as its
 * metrics count. Two clients may hold a lock at once only if the first one's lease was revoked.
 */
import * as Op from "@effect-kv/core/Op"
import { History } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import type { DeposedLeader } from "../src/AppliedFault.ts"
import * as Notes from "../src/Notes.ts"
import * as RoundChecker from "../src/RoundChecker.ts"

const second = 1_000_000_000n
const moment = (order: number, nanos: bigint) => ({ order, nanos })
const change = (type: "put" | "delete", key: string, lease: bigint, modRevision: bigint) => ({
  type,
  key,
  value: type === "put" ? "1" : "",
  valueBytes: new TextEncoder().encode(type === "put" ? "1" : ""),
  modRevision,
  createRevision: type === "put" ? modRevision : 0n,
  version: type === "put" ? 1n : 0n,
  lease: type === "put" ? lease : 0n
})

describe("a lease that ended too early", () => {
  const granted = (id: number, lease: bigint): History.Call => ({
    _tag: "Call",
    id,
    client: "c1",
    request: { _tag: "LeaseGrant", ttlMillis: 2000, id: lease },
    invoked: moment(id, 10n * second),
    completed: moment(id + 10, 10n * second),
    outcome: { _tag: "Responded", response: { _tag: "Lease", id: lease, ttlMillis: 2000 } }
  })
  const put = (id: number, key: string, lease: bigint, revision: bigint): History.Call => ({
    _tag: "Call",
    id,
    client: "c1",
    request: { _tag: "Execute", op: Op.put(key, "1", { lease }) },
    invoked: moment(id + 20, 10n * second),
    completed: moment(id + 30, 10n * second),
    outcome: { _tag: "Responded", response: { _tag: "Put", revision } }
  })
  const read: History.Call = {
    _tag: "Call",
    id: 9,
    client: "c1",
    request: { _tag: "Execute", op: Op.get("r/leased/1") },
    invoked: moment(50, 11n * second),
    completed: moment(51, 11n * second),
    outcome: { _tag: "Responded", response: { _tag: "Range", revision: 5n, count: 0, more: false, entries: [] } }
  }
  const fault = {
    kind: "pause-leader",
    millis: 2000,
    slot: 0,
    clients: [],
    everyMember: true,
    amount: 0
  } as const
  const check = (deposed: DeposedLeader | undefined) => {
    const ended = 11n * second
    const { revokedByDeposed, violations } = RoundChecker.check({
      backend: "etcd",
      schedule: [],
      kinds: [],
      prefix: "r/",
      compactedAt: 0n,
      evicted: [],
      round: {
        history: {
          ...History.empty,
          calls: [granted(0, 7n), granted(1, 8n), put(2, "r/leased/0", 7n, 2n), put(3, "r/leased/1", 8n, 3n), read]
        },
        changes: [
          change("put", "r/leased/0", 7n, 2n),
          change("put", "r/leased/1", 8n, 3n),
          change("delete", "r/leased/0", 7n, 4n),
          change("delete", "r/leased/1", 8n, 5n)
        ],
        appliedFaults: [{ fault, began: 9n * second, ended, healed: ended, deposed }],
        done: {},
        stopped: 0n,
        began: 0n,
        ended: second / 100n,
        problems: [],
        notes: Notes.make([]),
        eventLoopStalls: [],
        serverStalls: []
      }
    })
    // Such a short run is inconclusive as well.
    const others = violations.filter((violation) => !violation.startsWith("inconclusive"))
    return { revokedByDeposed, kinds: others.map((violation) => violation.split(":")[0]) }
  }

  it("is a violation if no leader was deposed", () => {
    assert.deepStrictEqual(check(undefined), { revokedByDeposed: 0, kinds: ["LeaseEndedEarly", "LeaseEndedEarly"] })
  })

  it("is excused if a deposed leader revoked it when it resumed, but no more of them than it revoked", () => {
    const resumed = 11n * second
    assert.deepStrictEqual(check({ resumed, revoked: 2 }), { revokedByDeposed: 2, kinds: [] })
    assert.deepStrictEqual(check({ resumed, revoked: 1 }), { revokedByDeposed: 1, kinds: ["LeaseEndedEarly"] })
  })

  it("is not excused by a leader that resumed at another time", () => {
    assert.strictEqual(check({ resumed: 20n * second, revoked: 2 }).revokedByDeposed, 0)
    assert.strictEqual(check({ resumed: 2n * second, revoked: 2 }).revokedByDeposed, 0)
  })
})

describe("a lock that two clients held at once", () => {
  const holding = (id: number, client: string, token: bigint, from: number, to: number): History.Holding => ({
    _tag: "Holding",
    id,
    client,
    lock: "r/lock/0",
    token,
    acquired: moment(from, BigInt(from)),
    ended: { at: moment(to, BigInt(to)), how: "Lost" }
  })
  const check = (evicted: ReadonlyArray<bigint>) =>
    RoundChecker.check({
      backend: "etcd",
      schedule: [],
      kinds: [],
      prefix: "r/",
      compactedAt: 0n,
      evicted,
      round: {
        history: { ...History.empty, holdings: [holding(0, "c1", 2n, 10, 30), holding(1, "c2", 3n, 20, 40)] },
        changes: [change("put", "r/lock/0/7", 7n, 2n), change("put", "r/lock/0/8", 8n, 3n)],
        appliedFaults: [],
        done: {},
        stopped: 0n,
        began: 0n,
        ended: second / 100n,
        problems: [],
        notes: Notes.make([]),
        eventLoopStalls: [],
        serverStalls: []
      }
    }).violations.map((violation) => violation.split(":")[0])

  it("is excused if the lease of the first was revoked by the harness", () => {
    assert.notInclude(check([7n]), "OverlappingHolders")
  })

  it("is a violation otherwise, even if the lease of the second was revoked", () => {
    assert.include(check([]), "OverlappingHolders")
    assert.include(check([8n]), "OverlappingHolders")
  })
})
