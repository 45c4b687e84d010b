/**
 * A critical section that counts how many bodies run in it at once.
 */
import type * as Kv from "@effect-kv/core/Kv"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"

/** Counts how many bodies run at once, and yields so that others could run meanwhile. */
export const section = Effect.fnUntraced(
  function*(kv: Kv.Kv, inside: Ref.Ref<{ now: number; most: number; total: number }>) {
    yield* Ref.update(inside, ({ most, now, total }) => ({
      now: now + 1,
      most: Math.max(most, now + 1),
      total: total + 1
    }))
    yield* kv.get("something")
    yield* Effect.yieldNow
    yield* Ref.update(inside, (state) => ({ ...state, now: state.now - 1 }))
  }
)

export const insideCounter = Ref.make({ now: 0, most: 0, total: 0 })
