/**
 * Conditions of transactions: every operator on every property of a key.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { backendOf } from "@effect-kv/core/KvInternals"
import * as Op from "@effect-kv/core/Op"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { chapter, reasonOf, rejects, test } from "./Case.ts"

const operators: ReadonlyArray<Compare.Operator> = ["=", "!=", "<", ">"]

/** Whether `actual operator expected` holds if `actual` is less than, equal to or greater than `expected`. */
const holdsFor = (operator: Compare.Operator, actual: "less" | "equal" | "greater"): boolean => {
  switch (operator) {
    case "=":
      return actual === "equal"
    case "!=":
      return actual !== "equal"
    case "<":
      return actual === "less"
    case ">":
      return actual === "greater"
  }
}

const holds = (kv: Kv.Kv, ...conditions: ReadonlyArray<Compare.Compare>) =>
  Effect.map(kv.txn({ if: conditions }), (response) => response.succeeded)

export const cases = chapter("conditions", [
  test("the value, version, revisions and lease of a key are compared by = != < >", function*(kv) {
    yield* kv.put("before", "-")
    const { revision: created } = yield* kv.put("k", "1")
    yield* kv.put("between", "-")
    const lease = yield* backendOf(kv).leaseGrant({ ttl: "1 hour" })
    const { revision: modified } = yield* kv.put("k", "m", { lease: lease.id })
    for (const operator of operators) {
      const table: ReadonlyArray<readonly [Compare.OfKey, "less" | "equal" | "greater"]> = [
        [Compare.value("k", operator, "n"), "less"],
        [Compare.value("k", operator, "m"), "equal"],
        [Compare.value("k", operator, new Uint8Array([0x6d])), "equal"],
        [Compare.value("k", operator, "l"), "greater"],
        [Compare.value("k", operator, "m\u0000"), "less"],
        [Compare.value("k", operator, ""), "greater"],
        [Compare.version("k", operator, 3), "less"],
        [Compare.version("k", operator, 2), "equal"],
        [Compare.version("k", operator, 1), "greater"],
        [Compare.version("k", operator, 0), "greater"],
        [Compare.createRevision("k", operator, created + 1n), "less"],
        [Compare.createRevision("k", operator, created), "equal"],
        [Compare.createRevision("k", operator, created - 1n), "greater"],
        [Compare.modRevision("k", operator, modified + 1n), "less"],
        [Compare.modRevision("k", operator, modified), "equal"],
        [Compare.modRevision("k", operator, created), "greater"],
        [Compare.lease("k", operator, lease.id + 1n), "less"],
        [Compare.lease("k", operator, lease.id), "equal"],
        [Compare.lease("k", operator, Option.some(lease.id)), "equal"],
        [Compare.lease("k", operator, lease.id - 1n), "greater"],
        [Compare.lease("k", operator, 0n), "greater"],
        [Compare.lease("between", operator, Option.none()), "equal"],
        [Compare.lease("k", operator, Option.none()), "greater"],
        [Compare.lease("between", operator, lease.id), "less"]
      ]
      for (const [compare, actual] of table) {
        const { target, value } = compare
        assert.strictEqual(yield* holds(kv, compare), holdsFor(operator, actual), `${target} ${operator} ${value}`)
      }
    }
  }),

  test("a condition can require a range to be empty, or to have no key created at or after a revision", function*(kv) {
    const range = KeyRange.prefix("in/")
    assert.isTrue(yield* holds(kv, Compare.empty(range)))
    assert.isTrue(yield* holds(kv, Compare.createdBefore(range, 1n)))
    for (const key of ["in", "in0", "i", "out"]) yield* kv.put(key, "v")
    assert.isTrue(yield* holds(kv, Compare.empty(range)), "keys just outside the range do not count")
    const { revision: first } = yield* kv.put("in/a", "1")
    const { revision: second } = yield* kv.put("in/b", "1")
    yield* kv.put("in/a", "2")
    assert.isFalse(yield* holds(kv, Compare.empty(range)))
    assert.isFalse(yield* holds(kv, Compare.createdBefore(range, first)))
    assert.isFalse(yield* holds(kv, Compare.createdBefore(range, second)), "every key of the range counts")
    assert.isTrue(
      yield* holds(kv, Compare.createdBefore(range, second + 1n)),
      "a later write does not change the create revision"
    )
    assert.isTrue(yield* holds(kv, Compare.createdBefore(KeyRange.closed("in/a", "in/a"), second)))
    assert.isTrue(yield* holds(kv, Compare.createdBefore(KeyRange.key("in/a"), second)))
    assert.isFalse(yield* holds(kv, Compare.empty(KeyRange.all)))
    yield* kv.deleteRange(range)
    assert.isTrue(yield* holds(kv, Compare.empty(range)))
    const written = yield* kv.txn({ if: [Compare.empty(range)], then: [Op.put("in/c", "1")], else: [Op.range(range)] })
    assert.isTrue(written.succeeded)
    const inner = Op.txn({ if: [Compare.empty(range)], then: [Op.put("in/d", "1")] })
    const nested = yield* kv.txn({ then: [Op.put("out", "1"), inner] })
    assert.isFalse(nested.succeeded && nested.responses[1].succeeded)
    const app = Kv.prefixed(kv, "in/")
    assert.isTrue(yield* holds(app, Compare.empty(KeyRange.prefix("in/"))))
    assert.isFalse(yield* holds(app, Compare.empty(KeyRange.all)))
    for (const condition of [Compare.empty(KeyRange.halfOpen("b", "a")), Compare.createdBefore(range, 0n)]) {
      yield* rejects(kv, "InvalidRequest", kv.txn({ if: [condition], then: [Op.get("k")] }))
    }
  }),

  test("values are compared by their unsigned bytes", function*(kv) {
    yield* kv.put("k", Uint8Array.of(0x80))
    assert.isTrue(yield* holds(kv, Compare.value("k", ">", Uint8Array.of(0x7f))))
    assert.isTrue(yield* holds(kv, Compare.value("k", "<", Uint8Array.of(0xff))))
    yield* kv.put("k", "\u{10000}")
    assert.isTrue(yield* holds(kv, Compare.value("k", ">", "\uffff")))
  }),

  test("the version, revisions and lease of a missing key compare as 0", function*(kv) {
    yield* kv.put("k", "v")
    yield* kv.delete("k")
    for (const key of ["k", "never"]) {
      for (const operator of operators) {
        assert.strictEqual(yield* holds(kv, Compare.version(key, operator, 0)), holdsFor(operator, "equal"))
        assert.strictEqual(yield* holds(kv, Compare.version(key, operator, 1)), holdsFor(operator, "less"))
        assert.strictEqual(yield* holds(kv, Compare.createRevision(key, operator, 0n)), holdsFor(operator, "equal"))
        assert.strictEqual(yield* holds(kv, Compare.createRevision(key, operator, 1n)), holdsFor(operator, "less"))
        assert.strictEqual(yield* holds(kv, Compare.modRevision(key, operator, 0n)), holdsFor(operator, "equal"))
        assert.strictEqual(yield* holds(kv, Compare.modRevision(key, operator, 1n)), holdsFor(operator, "less"))
        assert.strictEqual(yield* holds(kv, Compare.lease(key, operator, 0n)), holdsFor(operator, "equal"))
        assert.strictEqual(yield* holds(kv, Compare.lease(key, operator, 1n)), holdsFor(operator, "less"))
        assert.strictEqual(yield* holds(kv, Compare.version(key, operator, -1)), holdsFor(operator, "greater"))
        assert.strictEqual(yield* holds(kv, Compare.modRevision(key, operator, -1n)), holdsFor(operator, "greater"))
      }
    }
  }),

  test("a condition on the value of a missing key is false, whatever the operator", function*(kv) {
    for (const operator of operators) {
      for (const value of ["", "v"]) assert.isFalse(yield* holds(kv, Compare.value("k", operator, value)))
    }
  }),

  test("Compare.exists and Compare.missing check whether a key exists", function*(kv) {
    yield* kv.put("k", "")
    assert.deepStrictEqual(
      [
        yield* holds(kv, Compare.exists("k")),
        yield* holds(kv, Compare.missing("k")),
        yield* holds(kv, Compare.exists("none")),
        yield* holds(kv, Compare.missing("none"))
      ],
      [true, false, false, true]
    )
  }),

  test("the then branch runs if all conditions hold; without conditions it always runs", function*(kv) {
    yield* kv.put("k", "v")
    const yes = Compare.exists("k")
    const no = Compare.missing("k")
    assert.isTrue(yield* holds(kv))
    assert.isTrue(yield* holds(kv, yes, Compare.value("k", "=", "v")))
    assert.isFalse(yield* holds(kv, yes, no))
    assert.isFalse(yield* holds(kv, no, yes))
  }),

  test("an invalid condition is rejected", function*(kv) {
    for (
      const condition of [
        Compare.version("k", "=", 1.5),
        Compare.modRevision("k", "=", 2n ** 63n),
        Compare.value("k", "=", "\ud800"),
        Compare.value("", "=", "v")
      ]
    ) {
      assert.strictEqual((yield* reasonOf(kv.txn({ if: [condition] })))._tag, "InvalidRequest")
    }
  })
])
