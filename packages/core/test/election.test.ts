/**
 * What a singleton logs.
 */
import * as Election from "@effect-kv/core/Election"
import * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { TestClock } from "effect/testing"

describe("a singleton", () => {
  it.effect("logs an outage as one warning, and each failed run as one", () =>
    Effect.gen(function*() {
      const store = yield* MemoryStore.make()
      const backend = yield* store.connect
      let isCut = false
      const unlessCut = <A>(effect: Effect.Effect<A, KvError.KvError>) =>
        Effect.suspend(() => isCut ? KvError.fail(new KvError.Unavailable({ message: "says the test" })) : effect)
      const kv = yield* Kv.make({
        ...backend,
        execute: (op) => unlessCut(backend.execute(op)),
        leaseGrant: (options) => unlessCut(backend.leaseGrant(options)),
        leaseKeepAlive: (id) => unlessCut(backend.leaseKeepAlive(id))
      })
      const warnings: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
        if (logLevel === "Warn") warnings.push(String(Array.isArray(message) ? message[0] : message))
      })
      let runs = 0
      const work = () =>
        Effect.andThen(Effect.sync(() => ++runs), Effect.andThen(Effect.sleep("1 hour"), Effect.fail("own")))
      yield* Election.singleton("e", work).pipe(
        Effect.provideService(Kv.Kv, kv),
        Effect.provide(Logger.layer([logger])),
        Effect.forkScoped
      )
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(runs, 1)
      for (let outage = 1; outage <= 2; outage++) {
        isCut = true
        yield* TestClock.adjust("1 minute")
        isCut = false
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(runs, 1 + outage)
        assert.strictEqual(warnings.filter((message) => message.includes("a campaign failed")).length, outage)
      }
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(warnings.filter((message) => message.includes("a singleton's run failed")).length, 1)
    }))
})
