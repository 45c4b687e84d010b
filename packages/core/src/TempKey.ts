/**
 * Keys that live as long as a scope: to register a worker, to be counted, to be found.
 *
 * A temporary key is gone at once when its scope closes, and within its time to live when the process dies. If its lease
 * is lost and the store comes back, or somebody deletes it, it is made again.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Scope from "effect/Scope"
import type { Value } from "./Entry.ts"
import { TempKeyLost } from "./internal/tempKeyLost.ts"
import { Kv } from "./Kv.ts"
import type * as KvError from "./KvError.ts"

export { TempKeyLost }

/** Options of a temporary key. */
export interface Options {
  /** The key's value. Default: a token that no other temporary key has. */
  readonly value?: Value | undefined
  /** For how long the key may outlive a process that dies without a word. Default: 10 seconds. */
  readonly ttl?: Duration.Input | undefined
  /**
   * What happens when the key is gone, because its lease was lost or somebody deleted it. `recreate`: it is made again as
   * soon as the store can be reached. `fail`: `lost` fails, and the key stays gone. Default: `recreate`.
   */
  readonly onLost?: "recreate" | "fail" | undefined
}

/** A key that lives as long as its scope. */
export interface TempKey {
  readonly key: string
  /** Waits until the key is gone for good, and fails then: with `onLost: "fail"`, or when the client is closed. */
  readonly lost: Effect.Effect<never, TempKeyLost>
}

/** Makes a temporary key, which exists when this returns and until the scope closes. */
export const make = (key: string, options?: Options): Effect.Effect<TempKey, KvError.KvError, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => kv.tempKey(key, options))

/** Runs the effect while the key exists; with `onLost: "fail"` interrupts it when the key is gone. */
export const withTempKey: {
  (key: string, options?: Options): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | KvError.KvError | TempKeyLost, R | Kv>
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    key: string,
    options?: Options
  ): Effect.Effect<A, E | KvError.KvError | TempKeyLost, R | Kv>
} = dual(
  (args) => Effect.isEffect(args[0]),
  <A, E, R>(effect: Effect.Effect<A, E, R>, key: string, options?: Options) =>
    Effect.scopedWith((scope) =>
      Effect.flatMap(
        Scope.provide(make(key, options), scope),
        (tempKey) => Effect.raceFirst(effect, tempKey.lost)
      )
    )
)
