/**
 * What makes a run fail besides the violations that the checkers of the test suite find, shown on rounds made by hand.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import { History } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import type { AppliedFault } from "../src/AppliedFault.ts"
import * as Counters from "../src/Counters.ts"
import * as Disturbances from "../src/Disturbances.ts"
import type { Fault, Kind } from "../src/Fault.ts"
import { kindsOf } from "../src/Fault.ts"
import * as Growth from "../src/Growth.ts"
import * as Inconclusive from "../src/Inconclusive.ts"
import * as LeakCheck from "../src/LeakCheck.ts"
import * as Notes from "../src/Notes.ts"
import * as Recovery from "../src/Recovery.ts"
import type { Round } from "../src/Round.ts"
import * as RoundChecker from "../src/RoundChecker.ts"
import * as UnexplainedErrors from "../src/UnexplainedErrors.ts"

let order = 0
const at = (seconds: number): History.Moment => ({ order: order++, nanos: BigInt(Math.round(seconds * 1e9)) })
const nanos = (seconds: number): bigint => BigInt(Math.round(seconds * 1e9))

const call = (
  client: string,
  from: number,
  to: number,
  outcome: History.Outcome = { _tag: "Responded", response: { _tag: "Put", revision: 2n } },
  request: History.Request = { _tag: "Execute", op: Op.put("r/register/0", "1") }
): History.Call => ({ _tag: "Call", id: order++, client, request, invoked: at(from), completed: at(to), outcome })

const failed = (
  reason: History.Failure["reason"],
  outcome: History.Failure["outcome"] = "NotApplied"
): History.Failure => ({
  _tag: "Failed",
  reason,
  outcome,
  message: ""
})

const fault = (kind: Kind, from: number, to: number, clients: ReadonlyArray<number> = []): AppliedFault => {
  const fault: Fault = { kind, millis: 0, slot: 0, clients, everyMember: true, amount: 0 }
  return { fault, began: nanos(from), ended: nanos(to), healed: nanos(to) }
}

/** A round of thirty seconds without faults, except for the given changes. */
const round = (changed: Partial<Round> = {}): Round => ({
  history: History.empty,
  changes: [],
  appliedFaults: [],
  began: 0n,
  stopped: nanos(30),
  ended: nanos(32),
  done: { register: 1 },
  problems: [],
  notes: Notes.make([]),
  eventLoopStalls: [],
  serverStalls: [],
  ...changed
})

const span = (from: number, to: number) => ({ from: nanos(from), to: nanos(to) })

const responses = (client: string, from: number, to: number) =>
  Array.from({ length: Math.floor((to - from) * 10) }, (_, i) => call(client, from + i / 10, from + i / 10 + 0.01))

const calls = (...calls: ReadonlyArray<History.Call>): History.History => ({ ...History.empty, calls })

describe("an unexplained error", () => {
  const find = (changed: Partial<Round>, compactedAt = 0n) => UnexplainedErrors.find(round(changed), compactedAt)

  it("is a failed call without a fault in the five seconds before it that concerns the client", () => {
    const history = calls(call("c1", 9, 9.5, failed("Unavailable")))
    assert.lengthOf(find({ history }), 1)
    assert.lengthOf(find({ history, appliedFaults: [fault("cut", 3, 5, [0])] }), 0)
    assert.lengthOf(find({ history, appliedFaults: [fault("kill-leader", 3, 5)] }), 0)
    assert.lengthOf(find({ history, appliedFaults: [fault("cut", 3, 5, [1])] }), 1, "another client's link")
    assert.lengthOf(find({ history, appliedFaults: [fault("cut", 3, 3.9, [0])] }), 1, "long over")
    assert.lengthOf(find({ history, eventLoopStalls: [{ from: nanos(8), to: nanos(9) }] }), 0)
    assert.lengthOf(find({ history, eventLoopStalls: [{ from: nanos(8), to: nanos(8.2) }] }), 1, "too short to matter")
  })

  describe("beside measured stalls", () => {
    const renewal = call("c1", 9, 9.667, failed("DeadlineExceeded"), { _tag: "LeaseKeepAlive", id: 7n })
    const lost = (ended: number): History.History => ({
      ...History.empty,
      holdings: [{
        _tag: "Holding",
        id: 1,
        client: "c1",
        lock: "l",
        token: 3n,
        acquired: at(7),
        ended: { at: at(ended), how: "Lost" }
      }]
    })

    it("is a dropped renewal, however long it took to fail", () => {
      const history = calls(renewal)
      assert.lengthOf(find({ history }), 1)
      assert.lengthOf(find({ history, serverStalls: [span(6, 8.9)] }), 1, "the servers stalled before")
      assert.lengthOf(find({ history, serverStalls: [span(9.7, 12)] }), 1, "the servers stalled afterwards")
      assert.lengthOf(find({ history, serverStalls: [span(9.1, 9.35)] }), 1, "most of its time was left")
    })

    it("is not a renewal that the stalls left no time for", () => {
      const history = calls(renewal)
      assert.lengthOf(find({ history, serverStalls: [span(9.1, 9.5)] }), 0)
      assert.strictEqual(UnexplainedErrors.countExcused(round({ history, serverStalls: [span(9.1, 9.5)] })), 1)
      assert.strictEqual(UnexplainedErrors.countExcused(round({ history })), 0)
      assert.lengthOf(find({ history, eventLoopStalls: [span(9, 9.2), span(9.4, 9.6)] }), 0)
      const both = { serverStalls: [span(9, 9.2)], eventLoopStalls: [span(9.1, 9.3)] }
      assert.lengthOf(find({ history, ...both }), 1, "overlapping stalls count once")
    })

    it("is a call that fails at once, even during a server's stall", () => {
      const history = calls(call("c1", 9.2, 9.21, failed("Unavailable")))
      assert.lengthOf(find({ history, serverStalls: [span(9, 9.6)] }), 1)
    })

    it("is a lost session, even if the process stalled for a third of its time to live", () => {
      const pieces = (count: number) => Array.from({ length: count }, (_, i) => span(8.1 + i * 0.25, 8.25 + i * 0.25))
      assert.lengthOf(find({ history: lost(10), eventLoopStalls: pieces(4) }), 1)
      assert.lengthOf(find({ history: lost(10), eventLoopStalls: pieces(7) }), 0, "1.05 s of the last 2 s")
      assert.lengthOf(find({ history: lost(14), eventLoopStalls: pieces(7) }), 1, "the stalls were long over")
    })
  })

  it("is the loss of a lock without a fault", () => {
    const holding: History.Holding = {
      _tag: "Holding",
      id: 1,
      client: "c1",
      lock: "l",
      token: 3n,
      acquired: at(9),
      ended: { at: at(10), how: "Lost" }
    }
    assert.lengthOf(find({ history: { ...History.empty, holdings: [holding] } }), 1)
    const appliedFaults = [fault("evict", 8, 12)]
    assert.lengthOf(find({ history: { ...History.empty, holdings: [holding] }, appliedFaults }), 0)
  })

  it("is a temporary key that is put again without a fault", () => {
    const put = (from: number) =>
      call("c1", from, from + 0.1, undefined, { _tag: "Execute", op: Op.put("r/temporary/resident/c1", "v") })
    assert.lengthOf(find({ history: calls(put(0)) }), 0)
    assert.lengthOf(find({ history: calls(put(0), put(3)) }), 1)
    assert.lengthOf(find({ history: calls(put(0), put(3)), appliedFaults: [fault("partition", 1, 2.5, [0])] }), 0)
  })

  it("is LeaseNotFound for a call without a lease, or Compacted for a call that needs no compacted revision", () => {
    const withLease: History.Request = { _tag: "Execute", op: Op.put("k", "v", { lease: 7n }) }
    assert.lengthOf(find({ history: calls(call("c1", 1, 2, failed("LeaseNotFound"))) }), 1)
    assert.lengthOf(find({ history: calls(call("c1", 1, 2, failed("LeaseNotFound"), withLease)) }), 0)
    const past: History.Request = { _tag: "Execute", op: Op.get("k", { revision: 5n }) }
    const history = calls(call("c1", 1, 2, failed("Compacted"), past))
    assert.lengthOf(find({ history }, 5n), 1)
    assert.lengthOf(find({ history }, 6n), 0)
    assert.lengthOf(find({ history: calls(call("c1", 1, 2, failed("Compacted"))) }, 6n), 1)
  })

  it("is the end of a confirmed watch, unless undelivered history was compacted", () => {
    const watch = (reason: History.Failure["reason"], compactRevision?: bigint): Partial<Round> => ({
      history: {
        ...History.empty,
        watches: [{
          _tag: "Watch",
          id: 1,
          client: "c1",
          request: { range: KeyRange.all },
          invoked: at(1),
          confirmed: { at: at(1), revision: 10n },
          batches: [],
          ended: {
            at: at(2),
            how: { ...failed(reason), ...(compactRevision === undefined ? {} : { compactRevision }) }
          }
        }]
      }
    })
    assert.lengthOf(find(watch("Unavailable")), 1)
    assert.lengthOf(find(watch("Compacted", 20n), 20n), 0)
    assert.lengthOf(find(watch("Compacted", 20n), 19n), 1, "nothing was compacted there")
    assert.lengthOf(find(watch("Compacted", 9n), 20n), 1, "it had delivered later revisions")
  })
})

describe("the undisturbed time without a service", () => {
  const silence = (changed: Partial<Round>) => Disturbances.silences(round(changed)).get("response of c1")?.millis ?? 0

  it("is counted across faults without the time that they last, and up to the end of the load", () => {
    const history = calls(...responses("c1", 0, 10), ...responses("c1", 22, 30))
    assert.approximately(silence({ history }), 12_100, 50)
    const appliedFaults = [fault("cut", 10, 14, [0]), fault("kill-leader", 13, 16), fault("cut", 17, 22, [1])]
    assert.approximately(
      silence({ history, appliedFaults }),
      6100,
      50,
      "faults of another client's link do not count"
    )
    assert.approximately(silence({ history: calls(...responses("c1", 0, 20)) }), 10_100, 50)
  })

  it("is a violation if it exceeds five seconds", () => {
    const violations = (history: History.History) =>
      RoundChecker.check({
        backend: "etcd",
        schedule: [],
        kinds: [],
        round: round({ history }),
        prefix: "r/",
        compactedAt: 0n,
        evicted: []
      })
        .violations.filter((violation) => violation.startsWith("there was no response of c1"))
    assert.lengthOf(violations(calls(...responses("c1", 0, 20))), 1)
    assert.lengthOf(violations(calls(...responses("c1", 0, 26))), 0)
  })
})

describe("a service that returns late after a fault", () => {
  it("is a violation if it took more than five seconds without the stalls of the event loop", () => {
    const late = (eventLoopStalls: Round["eventLoopStalls"]) =>
      Recovery.find(round({
        history: calls(...responses("c1", 0, 10), ...responses("c1", 17, 30)),
        appliedFaults: [fault("lose-responses", 10, 11)],
        eventLoopStalls
      })).filter((violation) => violation.includes("came"))
    assert.deepStrictEqual(late([]), ["the first response came 6.0 s after lose-responses"])
    assert.lengthOf(late([span(9, 11.9)]), 1)
    assert.lengthOf(late([span(12, 13.5), span(13, 14)]), 0)
  })
})

describe("an inconclusive run", () => {
  const busy = calls(...Array.from({ length: 6 }, (_, i) => responses(`c${i + 1}`, 0, 30)).flat())
  const find = (changed: Partial<Round>, kinds: ReadonlyArray<Kind> = []) =>
    Inconclusive.find([], kinds, round({ history: busy, ...changed }))

  it("has no faults although some were requested, or a kind of work that was never completed", () => {
    assert.deepStrictEqual(find({}), [])
    assert.lengthOf(find({}, kindsOf.etcd), 1)
    assert.lengthOf(find({ done: { register: 5, shortLivedClient: 0 } }), 1)
  })

  it("has too few successful calls, however many fail", () => {
    const history = calls(...busy.calls.map((call) => ({ ...call, outcome: failed("Unavailable") })))
    assert.lengthOf(find({ history }), 2)
  })

  it("has too few successful calls for the time in which the event loop ran", () => {
    const history = calls(...Array.from({ length: 8 }, (_, i) => responses(`c${i + 1}`, 0, 5)).flat())
    const eventLoopStalls = [span(4, 29), span(5, 10)]
    const rateOf = (changed: Partial<Round>) =>
      find({ history, ...changed }).filter((lack) => lack.includes("calls per second"))
    assert.lengthOf(rateOf({}), 1)
    assert.lengthOf(rateOf({ eventLoopStalls }), 0)
  })
})

describe("the round checker", () => {
  const checked = (changed: Partial<Round>, evicted: ReadonlyArray<bigint> = [], kinds: ReadonlyArray<Kind> = []) =>
    RoundChecker.check({
      backend: "etcd",
      schedule: [],
      kinds,
      round: round(changed),
      prefix: "r/",
      compactedAt: 0n,
      evicted
    })
      .violations

  it("excuses a late notice of a lost lock only if the holder's own lease was revoked, and only for a short time", () => {
    const holding = (id: number, token: bigint, from: number, to: number): History.Holding => ({
      _tag: "Holding",
      id,
      client: `c${id}`,
      lock: "r/lock/0",
      token,
      acquired: at(from),
      ended: { at: at(to), how: "Lost" }
    })
    const put = (token: bigint, lease: bigint): Round["changes"][number] => ({
      type: "put",
      key: `r/lock/0/${lease.toString(16)}`,
      value: "",
      valueBytes: new Uint8Array(),
      modRevision: token,
      createRevision: token,
      version: 1n,
      lease
    })
    const changes = [put(2n, 7n), put(3n, 8n)]
    const overlaps = (until: number, evicted: ReadonlyArray<bigint>) => {
      // Moments are ordered by when they are made.
      const [first, second] = [holding(1, 2n, 1, until), holding(2, 3n, 2, 9)]
      const late = { ...first, ended: { at: at(until), how: "Lost" as const } }
      const history = { ...History.empty, holdings: [late, second] }
      return checked({ history, changes, appliedFaults: [fault("evict", 0, 9)] }, evicted)
        .filter((violation) => violation.startsWith("OverlappingHolders")).length
    }
    assert.strictEqual(overlaps(3, [7n]), 0)
    assert.strictEqual(overlaps(3, [8n]), 1, "the other client's lease was revoked")
    assert.strictEqual(overlaps(6, [7n]), 1, "it must have noticed by then")
  })

  it("reports a call or the opening of a watch that exceeds its client's deadline, and a call that never ends", () => {
    const late = (history: History.History) =>
      checked({ history }).filter((violation) => / took | had not ended/.test(violation))
    assert.lengthOf(late(calls(call("c3", 0, 2.9))), 0)
    assert.lengthOf(late(calls(call("c3", 0, 3.1))), 1)
    assert.lengthOf(
      late(calls(call("c3", 0, 3.1, undefined, { _tag: "LeaseRevoke", id: 1n }))),
      0,
      "cleanup has three seconds"
    )
    const renewal = (seconds: number) =>
      late(calls(call("c3", 0, seconds, { _tag: "Interrupted" }, { _tag: "LeaseKeepAlive", id: 1n })))
    assert.lengthOf(renewal(4.8), 0, "a renewal has a third of the time to live")
    assert.lengthOf(renewal(4.9), 1)
    const { completed: _, ...pending } = call("c1", 0, 0)
    assert.lengthOf(late(calls({ ...pending, outcome: { _tag: "Pending" } })), 1)
    const opening: History.WatchCall = {
      _tag: "Watch",
      id: 1,
      client: "c3",
      request: { range: KeyRange.all },
      invoked: at(0),
      confirmed: { at: at(3.1), revision: 1n },
      batches: []
    }
    assert.lengthOf(late({ ...History.empty, watches: [opening] }), 1)
  })

  it("reports more than one unknown outcome in twenty if all kinds of faults were requested", () => {
    const unknown = Array.from({ length: 10 }, () => call("c1", 1, 2, failed("Indeterminate", "Unknown")))
    const isReported = (history: History.History, kinds: ReadonlyArray<Kind>) =>
      checked({ history }, [], kinds).some((violation) => violation.includes("unknown outcome"))
    assert.isTrue(isReported(calls(...responses("c1", 0, 18), ...unknown), kindsOf.etcd))
    assert.isFalse(isReported(calls(...responses("c1", 0, 20), ...unknown), kindsOf.etcd))
    assert.isFalse(isReported(calls(...responses("c1", 0, 18), ...unknown), ["lose-responses"]))
  })

  describe("a counter under a lock", () => {
    const change = (
      type: "put" | "delete",
      key: string,
      value: string,
      revision: number
    ): Round["changes"][number] => ({
      type,
      key,
      value,
      valueBytes: new Uint8Array(),
      modRevision: BigInt(revision),
      createRevision: type === "put" ? BigInt(revision) : 0n,
      version: 1n,
      lease: 0n
    })
    const holding = (token: bigint): History.Holding => (
      { _tag: "Holding", id: Number(token), client: "c1", lock: "r/lock/0", token, acquired: at(1) }
    )
    /** The first holder has token 2, the second one gets the lock at revision 5 with token 3. */
    const find = (...values: ReadonlyArray<readonly [revision: number, value: string]>) =>
      Counters.find(
        [
          change("put", "r/lock/0/a", "", 2),
          change("put", "r/lock/0/b", "", 3),
          change("delete", "r/lock/0/a", "", 5),
          ...values.map(([revision, value]) => change("put", "r/lock/0-counter", value, revision))
        ].toSorted((a, b) => Number(a.modRevision - b.modRevision)),
        "r/",
        [holding(2n), holding(3n)]
      )

    it("goes up by one with each write of its holders", () => {
      assert.deepStrictEqual(find([4, "1 2 c1#1"], [6, "2 3 c2#2"], [7, "3 3 c2#3"]), [])
      assert.match(find([4, "1 2 c1#1"], [6, "1 3 c2#2"]).join(), /^r\/lock\/0-counter went from 1 to/)
    })

    it("must not be written by a client that lost the lock, even if no other write came between", () => {
      assert.match(find([4, "1 2 c1#1"], [6, "2 2 c1#2"]).join(), /^written without the lock: .*revision 6/)
      assert.match(find([4, "1 9 c1#1"]).join(), /^written without the lock: .*token 9/)
    })
  })

  it("reports the lease of a long-lived temporary key that is left after its client closed", () => {
    const put: Round["changes"][number] = {
      type: "put",
      key: "r/temporary/resident/c1",
      value: "",
      valueBytes: new Uint8Array(),
      modRevision: 2n,
      createRevision: 2n,
      version: 1n,
      lease: 7n
    }
    assert.lengthOf(LeakCheck.sessionsLeft([7n], [put]), 1)
    assert.lengthOf(LeakCheck.sessionsLeft([7n], [put, { ...put, lease: 8n }]), 0)
  })
})

describe("growth", () => {
  const soak = (rounds: number, grows: Partial<Growth.Sample>) =>
    Array.from({ length: rounds }, (_, i): Growth.Sample => ({
      // The first round differs from the others, and each varies a little.
      memory: (i === 0 ? 20e6 : 40e6) + (i % 3) * 4e5 + i * (grows.memory ?? 0),
      sockets: 12 - 2 * (i % 2) + i * (grows.sockets ?? 0),
      fibers: 30 + i * (grows.fibers ?? 0),
      timers: 4 - 2 * (i % 2) + i * (grows.timers ?? 0)
    }))

  it("of a megabyte, a fiber, a socket or a timer in each of 15 rounds is reported", () => {
    assert.deepStrictEqual(Growth.excess(soak(15, {})), [])
    assert.lengthOf(Growth.excess(soak(15, { memory: 1e6 })), 1)
    assert.lengthOf(Growth.excess(soak(15, { sockets: 1, fibers: 1, timers: 1 })), 3)
  })

  it("is not measured over a few rounds", () => {
    assert.match(Growth.excess(soak(3, {})).join(), /^inconclusive/)
    assert.deepStrictEqual(Growth.excess(soak(4, {})), [])
    assert.lengthOf(Growth.excess(soak(4, { memory: 3e6 })), 1)
  })
})
