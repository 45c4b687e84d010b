/**
 * The bridge on memory, under the test clock.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { TestClock } from "effect/testing"
import { Store, suite } from "./support/cases.ts"

const store = Effect.map(MemoryStore.make(), (memory) =>
  Store.of({
    client: Effect.flatMap(memory.connect, Kv.make),
    compact: memory.compact,
    passTime: (duration) => TestClock.adjust(duration)
  }))

describe("reactivity on memory", () => {
  suite((title, effect) =>
    it.effect(title, () => Effect.provide(Effect.provideServiceEffect(effect, Store, store), Logger.layer([])))
  )
})
