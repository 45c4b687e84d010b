/** A third-party backend that runs the published suite as the suite's README describes. */
import { Kv } from "@effect-kv/core"
import { KvBackend } from "@effect-kv/core/backend"
import { MemoryStore } from "@effect-kv/memory"
import * as KvConformance from "@effect-kv/test-suite/KvConformance"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"

const store = Effect.map(MemoryStore.make(), (server) =>
  KvConformance.Store.of({
    // A backend's own functions, implemented on a store at hand.
    client: Effect.flatMap(server.connect, (backend) => Kv.make(KvBackend.make({ ...backend }))),
    compact: server.compact,
    passTime: TestClock.adjust,
    limits: KvConformance.defaultLimits
  }))

KvConformance.suite("a third-party backend", {
  layer: Layer.effect(KvConformance.Store, store).pipe(Layer.provideMerge(TestClock.layer()))
})
