/**
 * The published suite's store in memory: a new one for each case, on the test clock.
 */
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryLayer from "@effect-kv/memory/MemoryLayer"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvConformance } from "@effect-kv/test-suite/conformance"
import { KvFaults } from "@effect-kv/test-suite/testing"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"

const store = (options: MemoryLayer.Options) =>
  Effect.map(MemoryStore.make(), (memory): typeof KvConformance.Store.Service => ({
    client: Layer.build(Layer.fresh(MemoryLayer.layerStoreWith(options))).pipe(
      Effect.map(Context.get(Kv.Kv)),
      Effect.provideService(MemoryStore.MemoryStore, memory)
    ),
    compact: memory.compact,
    passTime: TestClock.adjust,
    limits: KvConformance.defaultLimits,
    // A store in memory cannot be unreachable, but core must name what a backend knows.
    unreachable: {
      client: Effect.flatMap(memory.connect, (backend) => KvFaults.make(backend)).pipe(
        Effect.tap((faults) => faults.partition({ requests: "refused" })),
        Effect.map(({ kv }) => kv)
      ),
      cause: /KvFaults: the store (is|was) unreachable/
    }
  }))

/** Runs the suite on clients with these options. */
export const suite = (name: string, options: MemoryLayer.Options): void =>
  KvConformance.suite(name, {
    layer: Layer.effect(KvConformance.Store, store(options)).pipe(Layer.provideMerge(TestClock.layer()))
  })
