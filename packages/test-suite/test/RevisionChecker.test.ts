/**
 * `RevisionChecker` on small histories that are written by hand, close to the border between right and wrong.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import { type Changes, History, RevisionChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import {
  type CallAt,
  deleted,
  gone,
  history,
  keptAlive,
  kinds,
  moment,
  put,
  read,
  row,
  txn,
  written
} from "./smallHistories.ts"

describe("RevisionChecker", () => {
  const check = (changes: ReadonlyArray<Changes.Change>, ...calls: ReadonlyArray<CallAt>) =>
    RevisionChecker.check(history(...calls), changes)

  it("overlapping calls may share a revision, in any order that explains their responses", () => {
    const changes = [written(row("a", "1", 2n)), written(row("b", "1", 2n))]
    const b = Op.txn({ if: [Compare.missing("a")], then: [Op.put("b", "1")] })
    // It found `a` missing, so it took effect before the write of `a`.
    const together = check(changes, [[0, 3], Op.put("a", "1"), put(2n)], [[1, 2], b, txn(2n, true, put(2n))])
    assert.deepStrictEqual(together.violations, [])
    const apart = check(changes, [[0, 1], Op.put("a", "1"), put(2n)], [[2, 3], b, txn(2n, true, put(2n))])
    assert.include(kinds(apart.violations), "RealTimeOrder")
  })

  it("calls that share a revision cannot each see the store before the other", () => {
    const changes = [written(row("a", "1", 2n)), written(row("b", "1", 2n))]
    const a = Op.txn({ if: [Compare.missing("b")], then: [Op.put("a", "1")] })
    const b = Op.txn({ if: [Compare.missing("a")], then: [Op.put("b", "1")] })
    const skewed = check(changes, [[0, 3], a, txn(2n, true, put(2n))], [[1, 2], b, txn(2n, true, put(2n))])
    assert.deepStrictEqual(kinds(skewed.violations), ["WrongResponse"])
  })

  it("deletes are attributed to calls, also to those of unknown outcome", () => {
    const changes = [
      ...["a", "b", "c"].map((key, i) => written(row(key, "1", BigInt(i + 2)))),
      ...["a", "b", "c"].map((key) => gone(key, 5n))
    ]
    const puts = ["a", "b", "c"].map((key, i) => [[2 * i, 2 * i + 1], Op.put(key, "1"), put(BigInt(i + 2))] as const)
    const { unknown, violations } = check(
      changes,
      ...puts,
      [[6, 9], Op.delete("b"), "unknown"],
      [[6, 9], Op.deleteRange(KeyRange.all), deleted(5n, 2)]
    )
    assert.deepStrictEqual(violations, [])
    assert.deepStrictEqual(unknown, { applied: [3], notApplied: [] })
    const short = check(changes, ...puts, [[6, 9], Op.deleteRange(KeyRange.all), deleted(5n, 2)])
    assert.isNotEmpty(short.violations)
  })

  it("the end of a lease deletes all its keys, and it is not found alive later", () => {
    const lease = 7n
    const attached = ["a", "b"].map((key, i) => written({ ...row(key, "1", BigInt(i + 2)), lease }))
    const puts = ["a", "b"].map((
      key,
      i
    ): CallAt => [[2 * i, 2 * i + 1], Op.put(key, "1", { lease }), put(BigInt(i + 2))])
    const { calls } = history(...puts, [[8, 9], Op.range(KeyRange.all), read(4n)])
    const ended = [...attached, gone("a", 4n), gone("b", 4n)]
    const kindsOf = (changes: ReadonlyArray<Changes.Change>, more: ReadonlyArray<History.Call>) =>
      kinds(RevisionChecker.check({ ...History.empty, calls: [...calls, ...more] }, changes).violations)
    assert.deepStrictEqual(kindsOf(ended, []), [])
    assert.deepStrictEqual(kindsOf(ended, [keptAlive(lease, 5)]), ["LeaseEndedEarly"])
    assert.deepStrictEqual(kindsOf(ended, [keptAlive(lease, 10)]), ["PhantomWrite", "PhantomWrite"])
    const revoked: History.Call = {
      ...keptAlive(lease, 10),
      request: { _tag: "LeaseRevoke", id: lease },
      outcome: { _tag: "Responded", response: { _tag: "LeaseRevoked" } }
    }
    assert.deepStrictEqual(kindsOf(ended, [revoked]), [])
    assert.include(kindsOf([...attached, gone("a", 4n)], []), "PhantomWrite")
  })

  it("deletes that are part of a write are not the end of a lease", () => {
    const attached = { ...row("a", "1", 2n), lease: 7n }
    const put7 = [[0, 1], Op.put("a", "1", { lease: 7n }), put(2n)] as const
    const { violations } = check(
      [written(attached), written(row("b", "1", 3n)), gone("a", 3n)],
      put7,
      [[2, 3], Op.put("b", "1"), put(3n)]
    )
    assert.deepStrictEqual(kinds(violations), ["PhantomWrite"])
  })

  it("the end of a lease is recognised even if foreign clients may delete some of its keys", () => {
    const lease = 7n
    const changes = [
      ...["a", "theirs"].map((key, i) => written({ ...row(key, "1", BigInt(i + 2)), lease })),
      gone("a", 4n),
      gone("theirs", 4n)
    ]
    const mine = history([[0, 1], Op.put("a", "1", { lease }), put(2n)], [
      [2, 3],
      Op.put("theirs", "1", { lease }),
      put(3n)
    ])
    const foreign = (key: string) => key === "theirs"
    assert.deepStrictEqual(RevisionChecker.check(mine, changes, { foreign }).violations, [])
  })

  it("after the end of a lease its id may be granted again", () => {
    const lease = 7n
    const grant = (id: number, order: number): History.Call => ({
      ...keptAlive(lease, order),
      id,
      request: { _tag: "LeaseGrant", ttlMillis: 1000, id: lease }
    })
    const { calls } = history(
      [[2, 3], Op.put("a", "1", { lease }), put(2n)],
      [[4, 5], Op.get("a"), read(3n)],
      [[8, 9], Op.put("a", "2", { lease }), put(4n)]
    )
    const ended = [
      written({ ...row("a", "1", 2n), lease }),
      gone("a", 3n),
      written({ ...row("a", "2", 4n), lease })
    ]
    const at = (order: number, call: History.Call): History.Call => ({
      ...call,
      invoked: { order, nanos: BigInt(order) * 1_000_000_000n },
      completed: { order: order + 1, nanos: BigInt(order) * 1_000_000_000n }
    })
    const all = [grant(10, 0), ...calls, grant(11, 6)].map((call) => at(call.invoked.order, call))
    assert.deepStrictEqual(RevisionChecker.check({ ...History.empty, calls: all }, ended).violations, [])
  })

  it("a read cannot see half of a revision, nor the state before it", () => {
    const a = [[0, 9], Op.put("a", "1"), put(2n)] as const
    const b = [[0, 9], Op.put("b", "1"), put(2n)] as const
    const shared = [written(row("a", "1", 2n)), written(row("b", "1", 2n))]
    const middle = read(2n, row("a", "1", 2n))
    assert.deepStrictEqual(kinds(check(shared, a, b, [[1, 2], Op.range(KeyRange.all), middle]).violations), [
      "WrongResponse"
    ])
    const lease = 7n
    const attached = { ...row("a", "1", 2n), lease }
    const ended = check(
      [written(attached), gone("a", 3n)],
      [[0, 1], Op.put("a", "1", { lease }), put(2n)],
      [[2, 3], Op.get("a"), read(3n, attached)]
    )
    assert.deepStrictEqual(kinds(ended.violations), ["WrongResponse"])
  })

  it("a keysOnly read has no values, and a future revision cannot be read", () => {
    const changes = [written(row("a", "1", 2n)), written(row("a", "2", 3n, 2, 2n))]
    const puts = [[[0, 1], Op.put("a", "1"), put(2n)], [[4, 9], Op.put("a", "2"), put(3n)]] as const
    const kindsOf = (op: Op.Op, response: History.OpResponse) =>
      kinds(check(changes, ...puts, [[2, 8], op, response]).violations)
    assert.deepStrictEqual(kindsOf(Op.get("a", { keysOnly: true }), read(2n, row("a", "", 2n))), [])
    assert.deepStrictEqual(kindsOf(Op.get("a", { keysOnly: true }), read(2n, row("a", "1", 2n))), ["WrongResponse"])
    assert.deepStrictEqual(kindsOf(Op.get("a", { revision: 2n }), read(3n, row("a", "1", 2n))), [])
    assert.deepStrictEqual(kindsOf(Op.get("a", { revision: 3n }), read(2n, row("a", "2", 3n, 2, 2n))), [
      "WrongResponse"
    ])
  })

  it("filters, orders and limits determine the entries of a read", () => {
    const [a, b, c] = [row("a", "2", 5n, 2, 2n), row("b", "1", 3n), row("c", "1", 4n)]
    const changes = [written(row("a", "1", 2n)), written(b), written(c), written(a)]
    const puts: ReadonlyArray<CallAt> = changes.map(({ key, modRevision, valueBytes }, i) => [
      [2 * i, 2 * i + 1],
      Op.put(key, valueBytes),
      put(modRevision)
    ])
    const all = KeyRange.all
    const is = (op: Op.Op, more: boolean, ...entries: ReadonlyArray<History.Row>) =>
      check(changes, ...puts, [[10, 11], op, { _tag: "Range", revision: 5n, entries, count: 3, more }]).violations
        .length === 0
    assert.isTrue(is(Op.range(all, { minModRevision: 4n }), false, a, c))
    assert.isFalse(is(Op.range(all, { minModRevision: 4n }), false, a, b, c))
    assert.isTrue(is(Op.range(all, { maxModRevision: 4n }), false, b, c))
    assert.isFalse(is(Op.range(all, { maxModRevision: 4n }), false, a, b, c))
    assert.isTrue(is(Op.range(all, { minCreateRevision: 3n }), false, b, c))
    assert.isFalse(is(Op.range(all, { minCreateRevision: 3n }), false, a, b, c))
    assert.isTrue(is(Op.range(all, { maxCreateRevision: 3n }), false, a, b))
    assert.isFalse(is(Op.range(all, { maxCreateRevision: 3n }), false, a, b, c))
    const first = Op.range(all, { limit: 1, order: { by: "modRevision", direction: "descending" } })
    assert.isTrue(is(first, true, a))
    assert.isFalse(is(first, true, b))
    assert.isFalse(is(first, false, a))
    // Equal entries may be in any order, but each only once.
    const byVersion = Op.range(all, { limit: 2, order: { by: "version" } })
    assert.isTrue(is(byVersion, true, b, c))
    assert.isTrue(is(byVersion, true, c, b))
    assert.isFalse(is(byVersion, true, b, b))
    assert.isFalse(is(byVersion, true, b, a))
  })

  it("foreign clients may change their own keys", () => {
    const changes = [written(row("theirs", "1", 2n))]
    assert.deepStrictEqual(kinds(check(changes).violations), ["PhantomWrite"])
    const foreign = (key: string, type: "put" | "delete") => key === "theirs" && type === "put"
    assert.deepStrictEqual(RevisionChecker.check(History.empty, changes, { foreign }).violations, [])
  })

  it("a history of some keys can be checked against the changes of these keys", () => {
    const extent = { from: 10n, upTo: 30n }
    const changes = [written(row("a", "1", 15n)), written(row("a", "2", 20n, 2, 15n))]
    const puts: ReadonlyArray<CallAt> = [[[0, 1], Op.put("a", "1"), put(15n)], [[2, 3], Op.put("a", "2"), put(20n)]]
    const kindsOf = (...calls: ReadonlyArray<CallAt>) =>
      kinds(RevisionChecker.check(history(...puts, ...calls), changes, { extent }).violations)
    assert.deepStrictEqual(kindsOf([[4, 5], Op.get("a"), read(29n, row("a", "2", 20n, 2, 15n))]), [])
    assert.deepStrictEqual(kindsOf([[4, 5], Op.get("a"), read(29n, row("a", "1", 15n))]), ["WrongResponse"])
    assert.deepStrictEqual(kindsOf([[4, 5], Op.get("b"), read(31n)]), ["UnknownRevision"])
    const whole = RevisionChecker.check(history(...puts), changes)
    assert.deepStrictEqual(kinds(whole.violations), ["BrokenStoreHistory"])
  })

  it("a serializable read may have any revision at which it is right", () => {
    const changes = [written(row("a", "1", 2n)), written(row("a", "2", 3n, 2, 2n))]
    const puts = [[[0, 1], Op.put("a", "1"), put(2n)], [[2, 3], Op.put("a", "2"), put(3n)]] as const
    const old = (op: Op.Op) => check(changes, ...puts, [[4, 5], op, read(2n, row("a", "1", 2n))]).violations
    assert.deepStrictEqual(old(Op.get("a", { serializable: true })), [])
    assert.deepStrictEqual(kinds(old(Op.get("a"))), ["RealTimeOrder"])
  })

  it("a transaction is ordered in real time if any operation in it is linearizable", () => {
    const changes = [written(row("a", "1", 2n)), written(row("a", "2", 3n, 2, 2n))]
    const puts = [[[0, 1], Op.put("a", "1"), put(2n)], [[2, 3], Op.put("a", "2"), put(3n)]] as const
    const old = read(2n, row("a", "1", 2n))
    const kindsOf = (...serializable: ReadonlyArray<boolean>) =>
      kinds(
        check(changes, ...puts, [
          [4, 5],
          Op.txn({ then: serializable.map((serializable) => Op.get("a", { serializable })) }),
          txn(2n, true, ...serializable.map(() => old))
        ]).violations
      )
    assert.deepStrictEqual(kindsOf(true, true), [])
    assert.deepStrictEqual(kindsOf(true, false), ["RealTimeOrder"])
    assert.deepStrictEqual(kindsOf(), ["RealTimeOrder"])
  })

  it("a revision existed when a watch was confirmed at it or delivered it", () => {
    const changes = [written(row("a", "1", 2n)), written(row("b", "1", 3n))]
    const { calls } = history([[0, 9], Op.put("a", "1"), put(2n)], [[0, 9], Op.put("b", "1"), put(3n)], [
      [5, 6],
      Op.get("a"),
      read(2n, row("a", "1", 2n))
    ])
    const watch: History.WatchCall = {
      _tag: "Watch",
      id: 10,
      client: "a",
      request: { range: KeyRange.key("b") },
      invoked: moment(1),
      batches: []
    }
    const confirmed = (revision: bigint, startRevision?: bigint): History.WatchCall => ({
      ...watch,
      request: { ...watch.request, ...(startRevision === undefined ? {} : { startRevision }) },
      confirmed: { at: moment(2), revision }
    })
    const delivered: History.WatchCall = {
      ...confirmed(1n),
      batches: [{
        at: moment(3),
        revision: 3n,
        events: [{ _tag: "Put", key: "b", revision: 3n, entry: row("b", "1", 3n), isCreate: true }]
      }]
    }
    const kindsOf = (watch: History.WatchCall) =>
      kinds(RevisionChecker.check({ ...History.empty, calls, watches: [watch] }, changes).violations)
    assert.deepStrictEqual(kindsOf(confirmed(2n)), [])
    assert.deepStrictEqual(kindsOf(confirmed(3n)), ["RealTimeOrder"])
    assert.deepStrictEqual(kindsOf(delivered), ["RealTimeOrder"])
    // A requested revision does not prove that it existed.
    assert.deepStrictEqual(kindsOf(confirmed(3n, 4n)), [])
  })

  it("a put with another lease in the store is a violation", () => {
    const call = [[0, 1], Op.put("a", "1", { lease: 7n }), put(2n)] as const
    assert.deepStrictEqual(kinds(check([written({ ...row("a", "1", 2n), lease: 7n })], call).violations), [])
    assert.deepStrictEqual(kinds(check([written(row("a", "1", 2n))], call).violations), ["WrongResponse"])
  })

  it("contradictory changes of the store are a violation", () => {
    const kindsOf = (...changes: ReadonlyArray<Changes.Change>) =>
      new Set(RevisionChecker.check(History.empty, changes, { foreign: () => true }).violations.map(({ kind }) => kind))
    const broken = new Set(["BrokenStoreHistory"])
    const first = written(row("a", "1", 2n))
    assert.deepStrictEqual(kindsOf(first, written(row("a", "2", 3n, 2, 2n))), new Set())
    assert.deepStrictEqual(kindsOf(first, written(row("a", "2", 3n, 3, 2n))), broken)
    assert.deepStrictEqual(kindsOf(first, written(row("a", "2", 3n, 2, 3n))), broken)
    assert.deepStrictEqual(kindsOf(first, written(row("a", "2", 2n, 2, 2n))), broken)
    assert.deepStrictEqual(kindsOf(first, gone("b", 3n)), broken)
    assert.deepStrictEqual(kindsOf(first, written(row("b", "2", 4n))), broken)
    assert.deepStrictEqual(kindsOf(first, written(row("b", "2", 3n)), written(row("c", "2", 2n))), broken)
  })
})
