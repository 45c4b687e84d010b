import * as Check from "@effect-kv/core/Check"
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import { assert, describe, it } from "@effect/vitest"
import * as Inspect from "node:util"
import { integer, txn } from "./arbitraries.ts"

/** A write and its position: at each level an index in a list, then the branch of the nested transaction there. */
interface Write {
  readonly op: Op.Put | Op.Delete
  readonly path: ReadonlyArray<number | "then" | "else">
}

const writesOf = (op: Op.Op, path: Write["path"]): ReadonlyArray<Write> => {
  switch (op._tag) {
    case "Range":
      return []
    case "Put":
    case "Delete":
      return [{ op, path }]
    case "Txn":
      return (["then", "else"] as const).flatMap((branch) =>
        op[branch].flatMap((inner, i) => writesOf(inner, [...path, branch, i]))
      )
  }
}

/** Whether etcd's `checkIntervals` rejects a transaction with these two writes. */
const conflict = (a: Write, b: Write): boolean => {
  let i = 0
  while (a.path[i] === b.path[i]) i++
  // Only one of two branches runs.
  if (typeof a.path[i] === "string") return false
  if (a.op._tag === "Put" && b.op._tag === "Put") return a.op.key === b.op.key
  if (a.op._tag === b.op._tag) return false
  const [put, deletion] = a.op._tag === "Put" ? [a, b] : [b, a]
  if (put.op._tag !== "Put" || deletion.op._tag !== "Delete") return false
  if (!KeyRange.contains(deletion.op.range, put.op.key)) return false
  // For two sibling transactions, etcd only compares the puts of the later one with the deletes of the earlier one.
  const bothNested = put.path.length > i + 1 && deletion.path.length > i + 1
  return !bothNested || Number(deletion.path[i]) < Number(put.path[i])
}

const hasConflict = (op: Op.Op): boolean => {
  const writes = writesOf(op, [])
  return writes.some((a, i) => writes.slice(i + 1).some((b) => conflict(a, b)))
}

/** Whether a transaction is longer than its ancestors leave room for. */
const isTooLong = (op: Op.Op, budget: number): boolean => {
  if (op._tag !== "Txn") return false
  const longest = Math.max(op.if.length, op.then.length, op.else.length)
  return longest > budget || [...op.then, ...op.else].some((inner) => isTooLong(inner, budget - longest))
}

describe("Check.op", () => {
  it.prop("finds the conflicting writes that etcd finds", [txn], ([txn]) => {
    assert.strictEqual(Check.op(txn) !== undefined, hasConflict(txn))
  }, { arbitrary: { runs: 5000 } })

  it.prop("counts operations as etcd does", [txn, integer(0, 8)], ([txn, maxTxnOps]) => {
    if (hasConflict(txn)) return
    assert.strictEqual(Check.op(txn, { maxTxnOps }) !== undefined, isTooLong(txn, maxTxnOps))
  }, { arbitrary: { runs: 5000 } })

  it("allows a nested transaction to delete a key that an earlier sibling puts, as etcd does", () => {
    const put = Op.txn({ then: [Op.put("a", "v")] })
    const deletion = Op.txn({ then: [Op.delete("a")] })
    assert.isUndefined(Check.op(Op.txn({ then: [put, deletion] })))
    assert.isString(Check.op(Op.txn({ then: [deletion, put] })))
  })

  it("names the problem and the offending part", () => {
    const problems: ReadonlyArray<readonly [Op.Op, RegExp]> = [
      [Op.get(""), /key must not be empty/],
      [Op.put("k\ud800", "v"), /lone surrogate/],
      [Op.put("k", "v\ud800"), /value for "k" has a lone surrogate/],
      [Op.put("k", 1 as unknown as string), /must be a string or a Uint8Array/],
      [Op.put("k", "v", { lease: 0n }), /lease id/],
      [Op.range(KeyRange.halfOpen("b", "a")), /start must come before its end/],
      [Op.range(KeyRange.all, { limit: 0 }), /limit must be a positive integer, not 0/],
      [Op.range(KeyRange.all, { revision: -3n }), /revision must be a positive 64-bit integer, not -3/],
      [Op.range(KeyRange.all, { minModRevision: 2n ** 63n }), /minModRevision/],
      [Op.txn({ then: [Op.put("k", "1"), Op.put("k", "2")] }), /"k" is put twice/],
      [Op.txn({ then: [Op.put("k", "1"), Op.deleteRange(KeyRange.all)] }), /"k" is both put and deleted/],
      [Op.txn({ if: [Compare.exists("")] }), /key must not be empty/],
      [Op.txn({ if: [Compare.version("k", "=", 0.5)] }), /version must be an integer/],
      [Op.txn({ if: [Compare.lease("k", "=", 2n ** 64n)] }), /64-bit integer/],
      [Op.txn({ then: [Op.txn({ else: [Op.get("")] })] }), /key must not be empty/]
    ]
    for (const [op, pattern] of problems) assert.match(Check.op(op) ?? "nothing", pattern)
    const many = Op.txn({ then: Array.from({ length: 129 }, (_, i) => Op.put(`${i}`, "v")) })
    assert.match(Check.op(many, { maxTxnOps: 128 }) ?? "nothing", /129, but 128 are allowed/)
    assert.isUndefined(Check.op(many))
  })

  it("checks a large transaction in linear time", () => {
    const wide = Op.txn({
      then: Array.from({ length: 50_000 }, (_, i) => i % 2 === 0 ? Op.put(`p${i}`, "v") : Op.get(`g${i}`))
    })
    assert.isUndefined(Check.op(wide))
  })
})

describe("Op", () => {
  it("isWrite is true exactly for operations that can change the store", () => {
    assert.deepStrictEqual(
      [
        Op.get("a"),
        Op.put("a", "v"),
        Op.delete("a"),
        Op.txn({}),
        Op.txn({ then: [Op.get("a")] }),
        Op.txn({ else: [Op.txn({ else: [Op.delete("a")] })] })
      ].map(Op.isWrite),
      [false, true, true, false, false, true]
    )
  })

  it("copies the bytes it is given", () => {
    const bytes = Uint8Array.of(1, 2)
    const put = Op.put("k", bytes)
    const compare = Compare.value("k", "=", bytes)
    bytes.fill(9)
    assert.deepStrictEqual([put.value, compare.value], [Uint8Array.of(1, 2), Uint8Array.of(1, 2)])
  })

  it("never shows a value when it is printed", () => {
    const secret = "s3cr3t"
    const bytes = new TextEncoder().encode(secret)
    const things = [
      Op.put("k", secret),
      Op.put("k", bytes),
      Compare.value("k", "=", secret),
      Compare.value("k", "=", bytes)
    ]
    const txn = Op.txn({ if: [things[2]! as Compare.Compare], then: [Op.put("k", secret)] })
    for (const thing of [...things, txn]) {
      for (
        const printed of [
          Inspect.inspect(thing, { depth: 9 }),
          Inspect.format("%o %O", thing, thing),
          JSON.stringify(thing)
        ]
      ) {
        assert.notInclude(printed, secret)
        assert.notMatch(printed, /115,\s*51/)
        assert.include(printed, "k")
      }
    }
  })
})
