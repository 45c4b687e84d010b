/**
 * A client that loses requests and responses at random, by a seed. A lost request may still be applied, but later.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"

const lost = KvError.fail(new KvError.Indeterminate({ message: "a test lost the request or its response" }))

const yields = (n: number): Effect.Effect<void> => Effect.forEach(Array(n), () => Effect.yieldNow, { discard: true })

/** A linear congruential generator. */
export const randomOf = (seed: number) => {
  let state = seed
  return () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31
}

/** Loses about one write in ten, in one of three ways. `writes` counts them. */
export const lossy = (kv: Kv.Kv, seed: number, seen: { writes: number }): Kv.Kv => {
  const random = randomOf(seed)
  return Kv.mapBackend(kv, (backend): KvBackend => ({
    ...backend,
    execute: (op) => {
      const call = Effect.andThen(yields(Math.floor(random() * 4)), backend.execute(op))
      if (!Op.isWrite(op)) return call
      seen.writes++
      const chance = random()
      if (chance < 0.03) return lost
      if (chance < 0.06) return Effect.andThen(call, lost)
      if (chance < 0.1) {
        const late = Effect.ignore(Effect.andThen(yields(Math.floor(random() * 200)), backend.execute(op)))
        return Effect.andThen(Effect.forkDetach(late), lost)
      }
      return call
    }
  }))
}
