/**
 * Requests go to the instances that are listed, and stay with one of them as long as it lives.
 */
import { Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as ServiceRegistry from "../src/ServiceRegistry.ts"

it.live("requests are spread over the listed instances, and move only if their instance leaves", () =>
  Effect.gen(function*() {
    const { addresses, pick } = yield* ServiceRegistry.balance
    assert.deepStrictEqual(yield* pick("ada"), Option.none())
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Scope.provide(ServiceRegistry.register("a", "1"), scope)
    yield* ServiceRegistry.register("b", "2")
    yield* Kv.put("api/c", "not an endpoint")
    const until = (expected: string) =>
      Effect.gen(function*() {
        while ((yield* addresses).join() !== expected) yield* Effect.sleep("5 millis")
      })
    yield* until("1,2")
    const keys = Array.from({ length: 50 }, (_, i) => `user ${i}`)
    const before = (yield* Effect.forEach(keys, pick)).map(Option.getOrThrow)
    assert.deepStrictEqual([...new Set(before)].sort(), ["1", "2"])
    assert.deepStrictEqual((yield* Effect.forEach(keys, pick)).map(Option.getOrThrow), before)
    yield* Scope.close(scope, Exit.void)
    yield* until("2")
    assert.deepStrictEqual((yield* Effect.forEach(keys, pick)).map(Option.getOrThrow), keys.map(() => "2"))
  }).pipe(Effect.provide(MemoryLayer.layer)))
