/**
 * The search for an order, compared with one that tries all orders, on small right and wrong histories of a register.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import { integer, oneOf, weighted } from "../src/internal/choices.ts"
import { type Operation, search } from "../src/verification/checkers/search.ts"

interface Access {
  readonly kind: "write" | "read" | "swap"
  readonly value: number
  readonly expected: number
  readonly invoked: number
  readonly lasts: number
  readonly guess: number
  readonly isKnown: boolean
}

const access: Arbitrary.Arbitrary<Access> = Arbitrary.all({
  kind: oneOf(["write", "read", "swap"] as const),
  value: integer(0, 2),
  expected: integer(0, 2),
  invoked: integer(0, 8),
  lasts: integer(1, 6),
  guess: integer(0, 14),
  isKnown: weighted([3, Arbitrary.Constant(true)], [1, Arbitrary.Constant(false)])
})

const accesses = Arbitrary.array(access, { maxLength: 6 })

/** A numeric register that also counts its writes. */
type State = readonly [value: number, writes: number]

const toOperation = (access: Access, i: number): Operation<State> => ({
  // All moments are distinct.
  invoked: access.invoked + i / 10,
  completed: access.isKnown ? access.invoked + access.lasts + i / 10 + 0.05 : Number.POSITIVE_INFINITY,
  isRequired: access.isKnown,
  guess: access.guess,
  step: ([value, writes]) => {
    switch (access.kind) {
      case "write":
        return [[access.value, writes + 1]]
      case "read":
        return value === access.value ? [[value, writes]] : []
      case "swap":
        return value === access.expected ? [[access.value, writes + 1]] : []
    }
  }
})

/** Tries every order of every selection of optional operations. */
const exists = (
  operations: ReadonlyArray<Operation<State>>,
  state: State,
  accept: (state: State) => boolean
): boolean =>
  operations.every((each) => !each.isRequired) && accept(state) ||
  operations.some((operation) => {
    const others = operations.filter((other) => other !== operation)
    const isFree = others.every((other) => !other.isRequired || operation.invoked < other.completed)
    return isFree && operation.step(state).some((next) => exists(others, next, accept))
  })

describe("the search for an order", () => {
  const results = new Map<string, number>()

  it.prop(
    "the search finds an order exactly if there is one",
    [accesses, integer(0, 4)],
    ([accesses, writes]) => {
      const operations = accesses.map(toOperation)
      const accept = ([, count]: State) => writes === 0 || count === writes
      const result = search<State>({ operations, initial: [0, 0], key: (state) => state.join(), accept, budget: 1e6 })
      results.set(result._tag, (results.get(result._tag) ?? 0) + 1)
      assert.strictEqual(result._tag, exists(operations, [0, 0], accept) ? "Found" : "None")
      if (result._tag === "Found") assert.isTrue(isRight(operations, result.order, accept))
    },
    { arbitrary: { runs: 3000 } }
  )

  it("the search was compared on right and on wrong histories", () => {
    assert.isAbove(results.get("Found") ?? 0, 500)
    assert.isAbove(results.get("None") ?? 0, 500)
  })
})

/** Whether an order is valid. */
const isRight = (
  operations: ReadonlyArray<Operation<State>>,
  order: ReadonlyArray<number>,
  accept: (state: State) => boolean
): boolean => {
  let state: State | undefined = [0, 0]
  for (const [i, index] of order.entries()) {
    const operation = operations[index]!
    const later = operations.filter((_, other) => !order.slice(0, i + 1).includes(other))
    if (later.some((other) => other.isRequired && other.completed < operation.invoked)) return false
    state = state && operation.step(state)[0]
  }
  return state !== undefined && accept(state) &&
    operations.every((operation, i) => !operation.isRequired || order.includes(i))
}
