/**
 * A client whose requests take turns with those of other clients, as over a network, and may be lost. Everything is drawn
 * from a seed.
 */
import * as Kv from "@effect-kv/core/Kv"
import type { KvBackend } from "@effect-kv/core/KvBackend"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Effect from "effect/Effect"

/** A linear congruential generator: numbers from 0 to 1. */
export const randomOf = (seed: number): () => number => {
  let state = seed
  return () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31
}

const yields = (n: number): Effect.Effect<void> =>
  Effect.forEach(Array.from({ length: n }), () => Effect.yieldNow, { discard: true })

const lost = KvError.fail(new KvError.Indeterminate({ message: "a test lost the request or its response" }))

export interface Options {
  readonly seed: number
  /** The share of writes that are lost: never applied, applied, or applied later. Default: none. */
  readonly lossRate?: number
  /** Executes writes whatever their conditions: a broken store. Default: false. */
  readonly ignoresConditions?: boolean
}

export const contended = (kv: Kv.Kv, { ignoresConditions = false, lossRate = 0, seed }: Options): Kv.Kv => {
  const random = randomOf(seed)
  const pause = Effect.suspend(() => yields(Math.floor(random() * 4)))
  return Kv.mapBackend(kv, (backend): KvBackend => ({
    ...backend,
    execute: (op) =>
      Effect.suspend(() => {
        const sent = ignoresConditions && op._tag === "Txn" ? Op.txn({ then: op.then, else: op.else }) : op
        const call = backend.execute(sent).pipe(Effect.ensuring(pause), (call) => Effect.andThen(pause, call))
        if (!Op.isWrite(op) || random() >= lossRate) return call
        const kind = random()
        if (kind < 0.3) return lost
        if (kind < 0.7) return Effect.andThen(call, lost)
        const late = Effect.ignore(Effect.andThen(yields(Math.floor(random() * 50)), backend.execute(sent)))
        return Effect.andThen(Effect.forkDetach(late), lost)
      })
  }))
}
