/**
 * The data structures, each compared with the simplest implementation.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import { DeadlineHeap, type Timed } from "../src/internal/deadlineHeap.ts"
import { Deque } from "../src/internal/deque.ts"
import { contains, fromRange, type Interval, singleKey } from "../src/internal/interval.ts"
import { type IntervalMember, IntervalTree } from "../src/internal/intervalTree.ts"
import { OrderedIndex } from "../src/internal/orderedIndex.ts"
import { compareValues } from "../src/internal/values.ts"
import { integer, key, range } from "./arbitraries.ts"

/** Pseudo-random numbers that are the same in each run. */
const randomNumbers = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state % below
  }
}

const byKey = (a: { readonly key: string }, b: { readonly key: string }) => KeyRange.compareKeys(a.key, b.key)

describe("compareValues", () => {
  it("orders byte arrays by their bytes, without a sign, and a prefix before what it begins", () => {
    assert.strictEqual(compareValues(Uint8Array.of(1), Uint8Array.of(1, 0)), -1)
    assert.strictEqual(compareValues(Uint8Array.of(1, 0), Uint8Array.of(1)), 1)
    assert.strictEqual(compareValues(Uint8Array.of(0x80), Uint8Array.of(0x7f, 0xff)), 1)
    assert.strictEqual(compareValues(new Uint8Array(0), new Uint8Array(0)), 0)
  })

  it("orders text and bytes alike", () => {
    const texts = ["", "a", "ab", "b", "\u00e9", "\uffff", "\u{10000}"]
    const forms = (text: string) => [text, new TextEncoder().encode(text)]
    for (const a of texts) {
      for (const b of texts) {
        const expected = Math.sign(Buffer.from(a).compare(Buffer.from(b)))
        for (const x of forms(a)) for (const y of forms(b)) assert.strictEqual(compareValues(x, y), expected)
      }
    }
  })
})

describe("OrderedIndex", () => {
  const checkAgainst = (
    index: OrderedIndex<{ readonly key: string }>,
    expected: ReadonlyMap<string, { key: string }>
  ) => {
    const sorted = Array.from(expected.values()).sort(byKey)
    assert.strictEqual(index.size, sorted.length)
    assert.deepStrictEqual(index.slice(0, index.size), sorted)
    for (let i = 0; i <= sorted.length; i += Math.max(1, sorted.length >> 5)) {
      assert.deepStrictEqual(index.slice(i, i + 10), sorted.slice(i, i + 10))
      if (i < sorted.length) {
        assert.strictEqual(index.rank(sorted[i]!.key), i)
        assert.strictEqual(index.rank(`${sorted[i]!.key}\u0000`), i + 1)
      }
    }
  }

  const grow = (order: (i: number) => number, count: number) => {
    const index = new OrderedIndex<{ key: string }>()
    const expected = new Map<string, { key: string }>()
    for (let i = 0; i < count; i++) {
      const item = { key: `k${String(order(i)).padStart(6, "0")}` }
      if (expected.has(item.key)) continue
      expected.set(item.key, item)
      index.insert(item)
    }
    return { index, expected }
  }

  it.each([
    ["ascending", (i: number) => i],
    ["descending", (i: number) => 20_000 - i],
    ["scattered", (i: number) => (i * 7919) % 20_011]
  ])("holds keys inserted in %s order, three levels deep, and removes them again", (_, order) => {
    const { expected, index } = grow(order, 20_000)
    checkAgainst(index, expected)
    const random = randomNumbers(1)
    const keys = Array.from(expected.keys())
    while (keys.length > 0) {
      const [key] = keys.splice(random(keys.length), 1)
      index.remove(key!)
      expected.delete(key!)
      if (keys.length % 2_500 === 0) checkAgainst(index, expected)
    }
  })

  it("stays correct while keys are inserted and removed", () => {
    const random = randomNumbers(2)
    const { expected, index } = grow(() => random(30_000), 10_000)
    for (let i = 0; i < 60_000; i++) {
      const item = { key: `k${String(random(30_000)).padStart(6, "0")}` }
      if (expected.delete(item.key)) index.remove(item.key)
      else {
        expected.set(item.key, item)
        index.insert(item)
      }
      if (i % 10_000 === 0) checkAgainst(index, expected)
    }
    checkAgainst(index, expected)
  })
})

describe("Interval", () => {
  it.prop("holds the keys that its range holds", [range, key], ([range, key]) => {
    if (KeyRange.invalid(range) !== undefined) return
    assert.strictEqual(contains(fromRange(range), key), KeyRange.contains(range, key))
  }, { arbitrary: { runs: 2000 } })

  it.prop("knows a range that can hold only one key", [range, key], ([range, key]) => {
    const single = singleKey(range)
    if (single !== undefined) assert.strictEqual(KeyRange.contains(range, key), key === single)
  }, { arbitrary: { runs: 2000 } })
})

describe("IntervalTree", () => {
  it.prop("finds the intervals that a key lies in", [
    Arbitrary.array(range, { maxLength: 40 }),
    Arbitrary.array(integer(0, 39), { maxLength: 20 }),
    key
  ], ([ranges, removed, key]) => {
    const tree = new IntervalTree<IntervalMember>()
    const members = ranges
      .filter((range) => KeyRange.invalid(range) === undefined)
      .map((range, id) => ({ id, interval: fromRange(range) }))
    for (const member of members) tree.add(member)
    const left = members.filter((member) => !removed.includes(member.id))
    for (const member of members) if (!left.includes(member)) tree.remove(member)
    const found: Array<number> = []
    tree.forEachContaining(key, (member) => found.push(member.id))
    assert.deepStrictEqual(
      found.sort((a, b) => a - b),
      left.filter((member) => contains(member.interval, key)).map((member) => member.id)
    )
    for (const member of left) tree.remove(member)
    assert.isTrue(tree.isEmpty)
  }, { arbitrary: { runs: 1000 } })

  it("visits few of the intervals that do not contain the key", () => {
    const tree = new IntervalTree<IntervalMember>()
    let looks = 0
    for (let id = 0; id < 10_000; id++) tree.add({ id, interval: counted(`k${id}/`, `k${id}0`, () => looks++) })
    looks = 0
    let found = 0
    tree.forEachContaining("k5000/x", () => found++)
    tree.forEachContaining("z", () => found++)
    tree.forEachContaining("", () => found++)
    assert.strictEqual(found, 1)
    assert.isBelow(looks, 150)
  })

  const counted = (start: string, end: string, onLook: () => void): Interval => ({
    get start() {
      onLook()
      return start
    },
    end
  })
})

describe("DeadlineHeap", () => {
  it.prop("returns the earliest item, whatever is added, moved and removed", [
    Arbitrary.array(Arbitrary.all([integer(0, 2), integer(0, 20), integer(0, 30)]), { maxLength: 100 })
  ], ([steps]) => {
    const heap = new DeadlineHeap<Timed>()
    let items: Array<Timed> = []
    for (const [step, deadline, pick] of steps) {
      const item = items[pick % Math.max(1, items.length)]
      if (step === 0 || item === undefined) {
        const added = { deadline, heapIndex: 0 }
        items.push(added)
        heap.add(added)
      } else if (step === 1) {
        item.deadline = deadline
        heap.moved(item)
      } else {
        heap.remove(item)
        items = items.filter((other) => other !== item)
      }
      const earliest = items.length === 0 ? undefined : Math.min(...items.map((item) => item.deadline))
      assert.strictEqual(heap.earliest?.deadline, earliest)
    }
    heap.shift(5)
    for (const deadline of items.map((item) => item.deadline).sort((a, b) => a - b)) {
      assert.strictEqual(heap.earliest!.deadline, deadline)
      heap.remove(heap.earliest!)
    }
    assert.isUndefined(heap.earliest)
  }, { arbitrary: { runs: 1000, size: 100 } })
})

describe("Deque", () => {
  it("keeps positions while it drops elements", () => {
    const deque = new Deque<number>()
    for (let i = 0; i < 10_000; i++) {
      deque.push(i)
      if (i >= 100) deque.dropFirst()
      assert.strictEqual(deque.at(deque.first), deque.first)
      assert.strictEqual(deque.at(deque.end - 1), i)
    }
    assert.strictEqual(deque.length, 100)
    assert.strictEqual(deque.firstWhere((n) => n >= 9_950), 9_950)
    assert.strictEqual(deque.firstWhere(() => false), deque.end)
    assert.strictEqual(deque.firstWhere(() => true), deque.first)
  })
})
