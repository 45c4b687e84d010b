/**
 * A store behind `KvFaults` keeps the contract: without faults, and while every call goes through a fault without effect and
 * every watch is cut repeatedly.
 */
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvConformance } from "@effect-kv/test-suite/conformance"
import { KvFaults } from "@effect-kv/test-suite/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"

const storeWith = (prepare: (faults: KvFaults.KvFaults) => Effect.Effect<unknown>) =>
  Layer.effect(
    KvConformance.Store,
    Effect.map(MemoryStore.make(), (memory): typeof KvConformance.Store.Service => ({
      client: memory.connect.pipe(
        Effect.flatMap((backend) => KvFaults.make(backend)),
        Effect.tap(prepare),
        Effect.map((faults) => faults.kv)
      ),
      compact: memory.compact,
      passTime: TestClock.adjust,
      limits: KvConformance.defaultLimits
    }))
  ).pipe(Layer.provideMerge(TestClock.layer()))

KvConformance.suite("memory, seen through faults of which there are none", { layer: storeWith(() => Effect.void) })

KvConformance.suite("memory, with all watches cut at every call", {
  layer: storeWith((faults) =>
    faults.inject({ description: "watches cut", onRequest: Effect.asVoid(faults.cutWatches()) }, { times: Infinity })
  )
})
