/**
 * Which failures of a case are tried again, and where the case then writes.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvConformance } from "@effect-kv/test-suite/conformance"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { newClient } from "../src/conformance/cases/Case.ts"
import { mostAttempts, unlessStalled } from "../src/conformance/unlessStalled.ts"

const store = Layer.effect(
  KvConformance.Store,
  Effect.map(MemoryStore.make(), (memory) => ({
    client: Effect.flatMap(memory.connect, Kv.make),
    compact: memory.compact,
    passTime: Effect.sleep,
    limits: KvConformance.defaultLimits
  }))
)

const stall = Effect.sync(() => {
  const until = performance.now() + 600
  while (performance.now() < until) continue
})

/** A case that writes a key, which must not exist, and then fails so often. */
const failing = (failures: number, before: Effect.Effect<void>) => {
  let attempts = 0
  const run = Effect.gen(function*() {
    const kv = yield* newClient
    assert.isTrue(yield* kv.testAndSet("case/key", Option.none(), `${++attempts}`))
    yield* before
    if (attempts <= failures) yield* Effect.fail(new Error(`attempt ${attempts}`))
  })
  return { attempts: () => attempts, run }
}

describe("a case that waits on a shared store", () => {
  it.live("is tried again in a namespace of its own if it failed while the event loop was stalled", () =>
    Effect.gen(function*() {
      const { attempts, run } = failing(1, stall)
      yield* unlessStalled(run)
      assert.strictEqual(attempts(), 2)
      const { entries } = yield* Effect.flatMap(newClient, (kv) => kv.range(KeyRange.all))
      assert.deepStrictEqual(entries.map(({ key }) => key), ["attempt-2/case/key", "case/key"])
    }).pipe(Effect.provide(store)))

  it.live("fails at once if the event loop was not stalled", () =>
    Effect.gen(function*() {
      // How the machine treats this process is not the test's, so it may take several cases to see one unstalled.
      const attempts = yield* Effect.gen(function*() {
        const { attempts, run } = failing(Infinity, Effect.sleep("20 millis"))
        yield* Effect.flip(Effect.provide(unlessStalled(run), Layer.fresh(store)))
        return attempts()
      }).pipe(Effect.repeat({ until: (attempts) => attempts === 1, times: 50 }))
      assert.strictEqual(attempts, 1)
    }))

  it.live("fails as its last attempt did, however long the event loop is stalled", () =>
    Effect.gen(function*() {
      const { attempts, run } = failing(Infinity, stall)
      const error = yield* Effect.flip(unlessStalled(run))
      assert.deepStrictEqual([attempts(), String(error)], [mostAttempts, `Error: attempt ${mostAttempts}`])
    }).pipe(Effect.provide(store)))
})
