/** The published test suite in another project: each of its three entry points at work. */
import { Kv } from "@effect-kv/core"
import { MemoryLayer, MemoryStore } from "@effect-kv/memory"
import { KvConformance } from "@effect-kv/test-suite/conformance"
import { KvFaults } from "@effect-kv/test-suite/testing"
import { LinearizabilityChecker, Recorder } from "@effect-kv/test-suite/verification"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"

const store = Effect.map(MemoryStore.make(), (server) =>
  KvConformance.Store.of({
    // A backend's own functions, implemented on a store at hand.
    client: Effect.flatMap(server.connect, (backend) => Kv.make({ ...backend })),
    compact: server.compact,
    passTime: TestClock.adjust,
    limits: KvConformance.defaultLimits
  }))

KvConformance.suite("a third-party backend", {
  layer: Layer.effect(KvConformance.Store, store).pipe(Layer.provideMerge(TestClock.layer()))
})

it.effect("KvFaults makes a write fail with an unknown outcome", () =>
  Effect.gen(function*() {
    const faults = yield* KvFaults.KvFaults
    yield* faults.inject(KvFaults.loseResponse, { when: KvFaults.writes("key") })
    const error = yield* Effect.flip(faults.kv.put("key", "value"))
    expect(error.reason._tag).toBe("Indeterminate")
  }).pipe(Effect.provide(KvFaults.layer().pipe(Layer.provide(MemoryLayer.layer)))))

it.effect("a recorded history of a memory store is linearizable", () =>
  Effect.gen(function*() {
    const server = yield* MemoryStore.make()
    const recorder = yield* Recorder.make
    const kv = yield* Kv.make(recorder.client("client")(yield* server.connect))
    yield* kv.put("key", "value")
    yield* kv.get("key")
    const history = yield* recorder.history
    expect(history.calls).toHaveLength(2)
    expect(LinearizabilityChecker.check(history)).toEqual([])
  }))
