/**
 * The published suite on memory, by the test clock: a fresh store for each case; by itself, and folded.
 */
import * as Folding from "@effect-kv/core/Folding"
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import * as KvConformance from "@effect-kv/test-suite/KvConformance"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"

const store = (wrap: (backend: KvBackend) => KvBackend) =>
  Effect.map(MemoryStore.make(), (memory): typeof KvConformance.Store.Service => ({
    client: Effect.flatMap(memory.connect, (backend) => Kv.make(wrap(backend))),
    compact: memory.compact,
    passTime: TestClock.adjust,
    limits: KvConformance.defaultLimits
  }))

const suite = (name: string, wrap: (backend: KvBackend) => KvBackend): void =>
  KvConformance.suite(name, {
    layer: Layer.effect(KvConformance.Store, store(wrap)).pipe(Layer.provideMerge(TestClock.layer()))
  })

suite("memory", (backend) => backend)

/** A store that takes a moment to answer, so that there is something to fold. */
const unhurried = (backend: KvBackend): KvBackend => ({
  ...backend,
  execute: (op) => Effect.andThen(Effect.yieldNow, backend.execute(op))
})

suite("memory, folded", (backend) => Folding.folded()(unhurried(backend)))
