/**
 * The conformance suite on mutants: it must find every store that breaks the contract.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvConformance } from "@effect-kv/test-suite/conformance"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import { type Mutant, mutants } from "./mutants.ts"

const storeOf = (apply: Mutant["apply"]) =>
  Layer.effect(
    KvConformance.Store,
    Effect.map(MemoryStore.make(), (memory) => ({
      client: Effect.map(Effect.flatMap(memory.connect, Kv.make), Kv.mapBackend(apply)),
      compact: memory.compact,
      passTime: TestClock.adjust,
      limits: KvConformance.defaultLimits
    }))
  ).pipe(Layer.provideMerge(TestClock.layer()))

const caseOf = (title: string): KvConformance.Case => {
  const found = KvConformance.cases.find((each) => each.title === title)
  return found ?? assert.fail(`there is no case "${title}"`)
}

const run = (each: KvConformance.Case, apply: Mutant["apply"]) =>
  Effect.exit(Effect.provide(Effect.scoped(each.run), storeOf(apply)))

describe("the conformance suite finds a store that", () => {
  for (const { apply, noticedBy, title } of mutants) {
    it.live(title, () =>
      Effect.gen(function*() {
        for (const each of noticedBy.map(caseOf)) {
          assert.isTrue(Exit.isFailure(yield* run(each, apply)), `"${each.title}" did not fail`)
          assert.isTrue(Exit.isSuccess(yield* run(each, (backend) => backend)), `"${each.title}" fails on a good store`)
        }
      }))
  }
})

describe("the cases", () => {
  it("all cases have unique titles", () => {
    const titles = KvConformance.cases.map((each) => each.title)
    assert.deepStrictEqual(titles.filter((title, i) => titles.indexOf(title) !== i), [])
  })
})
