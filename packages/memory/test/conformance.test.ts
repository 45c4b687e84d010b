/**
 * The published suite on memory, by the test clock: a fresh store for each case.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import * as KvConformance from "@effect-kv/test-suite/KvConformance"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"

const store = Effect.map(MemoryStore.make(), (memory): typeof KvConformance.Store.Service => ({
  client: Effect.flatMap(memory.connect, Kv.make),
  compact: memory.compact,
  passTime: TestClock.adjust,
  limits: KvConformance.defaultLimits
}))

KvConformance.suite("memory", {
  layer: Layer.effect(KvConformance.Store, store).pipe(Layer.provideMerge(TestClock.layer()))
})
