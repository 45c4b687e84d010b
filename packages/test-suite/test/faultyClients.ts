/**
 * Helpers for the tests of `KvFaults`.
 */
import * as Kv from "@effect-kv/core/Kv"
import type * as KvError from "@effect-kv/core/KvError"
import * as MemoryStore from "@effect-kv/memory/MemoryStore"
import { KvFaults } from "@effect-kv/test-suite/testing"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"

/** A client with faults, and one of the same store without faults. */
export const clients = Effect.gen(function*() {
  const store = yield* MemoryStore.make()
  const faults = yield* KvFaults.make(yield* store.connect)
  const other = yield* Effect.flatMap(store.connect, Kv.make)
  return { store, faults, kv: faults.kv, other }
})

export const reasonOf = <A, R>(effect: Effect.Effect<A, KvError.KvError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

/** Yields until no fiber can continue. */
export const settle = Effect.forEach(Array.from({ length: 20 }), () => TestClock.adjust(0), { discard: true })

export const isDone = (fiber: Fiber.Fiber<unknown, unknown>): boolean => fiber.pollUnsafe() !== undefined
