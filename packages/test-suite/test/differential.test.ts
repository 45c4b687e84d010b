import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { Differential } from "@effect-kv/test-suite/conformance"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mutants } from "./mutants.ts"

const memory = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const kv = yield* Effect.flatMap(store.connect, Kv.make)
  return { kv, compact: store.compact }
})

/** A namespace of a store that has keys just outside of it. */
const namespaced = (prefix: string) =>
  Effect.gen(function*() {
    const side = yield* memory
    const neighbours = [prefix, "\u0000", "a", "a0", "app", "b", "\ud7fe\u{10ffff}", "\ue000", "\u{10fffe}\u{10ffff}"]
    for (const key of new Set(neighbours)) {
      if (key === prefix || !key.startsWith(prefix)) yield* side.kv.put(key, "outside")
    }
    return { ...side, kv: Kv.prefixed(side.kv, prefix) }
  })

describe("Differential", () => {
  for (const prefix of ["app/", "\ud7ff", "\u{10ffff}", "a"]) {
    it.live(`a namespace ${JSON.stringify(prefix)} has the same outcomes as a store`, () =>
      Effect.gen(function*() {
        yield* Differential.check({ store: yield* memory, namespace: yield* namespaced(prefix) }, { runs: 60 })
      }))
  }

  it.live("a program that reads at its first revision has the same outcomes on stores with different revisions", () =>
    Effect.gen(function*() {
      const sides = { fresh: yield* memory, used: yield* namespaced("app/") }
      const range = KeyRange.key("a")
      yield* Differential.compare(sides, [
        { do: "replay", range, from: 0, previous: true, only: undefined },
        { do: "range", range, read: { revision: 5 } },
        { do: "compareAndSet", key: "a", revision: 5, value: "v" }
      ])
    }))

  for (const mutant of mutants.filter((each) => each.differs)) {
    it.live(`the differential test finds a store that ${mutant.title}`, () =>
      Effect.gen(function*() {
        const broken = yield* memory
        const sides = { good: yield* memory, broken: { ...broken, kv: Kv.mapBackend(broken.kv, mutant.apply) } }
        const error = yield* Effect.flip(Differential.check(sides, { runs: 400, seed: 1 }))
        assert.isBelow(error.program.length, 8, error.message)
      }))
  }
})
