/**
 * `WatchChecker` on small histories that are written by hand.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { type Changes, type History, WatchChecker } from "@effect-kv/test-suite/verification"
import { assert, describe, it } from "@effect/vitest"
import { gone, kinds, moment, row, written } from "./smallHistories.ts"

describe("WatchChecker", () => {
  const changes = [2n, 3n, 4n].map((revision, i) => written(row("a", `${i}`, revision, i + 1, 2n)))

  const watch = (startRevision: bigint | undefined, confirmed: bigint, from: number): History.WatchCall => ({
    _tag: "Watch",
    id: 1,
    client: "a",
    request: { range: KeyRange.key("a"), ...(startRevision === undefined ? {} : { startRevision }) },
    invoked: moment(0),
    confirmed: { at: moment(1), revision: confirmed },
    batches: [0, 1, 2].slice(from).map((i) => ({
      at: moment(2 + i),
      revision: BigInt(i + 2),
      events: [{
        _tag: "Put",
        key: "a",
        revision: BigInt(i + 2),
        entry: row("a", `${i}`, BigInt(i + 2), i + 1, 2n),
        isCreate: i === 0
      }]
    }))
  })

  const kindsOf = (watch: History.WatchCall) =>
    kinds(WatchChecker.check({ watches: [watch] }, changes, { readUpTo: () => 4n }))

  it("a watch must deliver all events from its start revision on, past or future", () => {
    assert.deepStrictEqual(kindsOf(watch(undefined, 2n, 1)), [])
    assert.deepStrictEqual(kindsOf(watch(3n, 2n, 1)), [])
    assert.deepStrictEqual(kindsOf(watch(9n, 8n, 3)), [])
    assert.deepStrictEqual(kindsOf(watch(3n, 3n, 2)), ["WrongStart", "Missing"])
    assert.deepStrictEqual(kindsOf(watch(3n, 4n, 3)), ["WrongStart", "Incomplete", "Incomplete"])
    assert.deepStrictEqual(kindsOf(watch(3n, 1n, 0)), ["WrongStart", "Phantom"])
  })

  const check = (
    changes: ReadonlyArray<Changes.Change>,
    request: Omit<History.WatchCall["request"], "range">,
    ...batches: ReadonlyArray<readonly [revision: bigint, ...events: ReadonlyArray<History.Event>]>
  ) =>
    kinds(WatchChecker.check(
      {
        watches: [{
          _tag: "Watch",
          id: 1,
          client: "a",
          request: { range: KeyRange.all, ...request },
          invoked: moment(0),
          confirmed: { at: moment(1), revision: 1n },
          batches: batches.map(([revision, ...events], i) => ({ at: moment(2 + i), revision, events }))
        }]
      },
      changes,
      { readUpTo: () => 9n }
    ))

  const came = (key: string, revision: bigint): History.Event => ({
    _tag: "Put",
    key,
    revision,
    entry: row(key, "1", revision),
    isCreate: true
  })

  const left = (key: string, revision: bigint): History.Event => ({ _tag: "Delete", key, revision })

  it("a watch must deliver all requested events and no others", () => {
    const changes = [written(row("a", "1", 2n)), written(row("b", "1", 2n)), gone("a", 3n)]
    const both = [2n, came("a", 2n), came("b", 2n)] as const
    assert.deepStrictEqual(check(changes, {}, both, [3n, left("a", 3n)]), [])
    assert.deepStrictEqual(check(changes, { only: "Put" }, both), [])
    assert.deepStrictEqual(check(changes, { only: "Delete" }, [3n, left("a", 3n)]), [])
    assert.deepStrictEqual(check(changes, { only: "Put" }, both, [3n, left("a", 3n)]), ["Phantom"])
    assert.deepStrictEqual(check(changes, { only: "Delete" }), ["Incomplete"])
  })

  it("a watch must deliver each event once, in the batch of its revision, and no empty batch", () => {
    const changes = [written(row("a", "1", 2n)), written(row("b", "1", 2n))]
    assert.deepStrictEqual(check(changes, {}, [2n, came("a", 2n), came("b", 2n), came("b", 2n)]), ["Duplicate"])
    assert.deepStrictEqual(check(changes, {}, [2n]), ["SplitRevision"])
    const strange = { ...came("b", 2n), revision: 3n }
    assert.deepStrictEqual(check(changes, {}, [2n, came("a", 2n), strange]), ["SplitRevision"])
  })
})
