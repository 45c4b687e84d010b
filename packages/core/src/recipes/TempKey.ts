/**
 * Keys that live as long as a scope: to register a worker, to count the copies of a program, to publish an address.
 *
 * A temporary key is deleted when its scope closes, and by its lease within its time to live when the process dies. If
 * its lease is lost or another client deletes it, it is made again. A temporary key never overwrites a key of another
 * client.
 */
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Scope from "effect/Scope"
import * as internals from "../internal/kv/internals.ts"
import type { Options, Status, TempKey } from "../internal/tempKey/model.ts"
import * as internal from "../internal/tempKey/tempKey.ts"
import { TempKeyLost, TempKeyTaken } from "../internal/tempKey/tempKeyErrors.ts"
import { Kv } from "../service/Kv.ts"
import type * as KvError from "../values/KvError.ts"

export { TempKeyLost, TempKeyTaken }

export type {
  /** Options of a temporary key. */
  Options,
  /** The state of a temporary key. */
  Status,
  /** A key that lives as long as its scope. */
  TempKey
}

/** Makes a temporary key, which exists when this returns and until the scope closes. */
export const make = (
  key: string,
  options?: Options
): Effect.Effect<TempKey, KvError.KvError | TempKeyTaken, Kv | Scope.Scope> =>
  Effect.flatMap(Kv, (kv) => {
    const { backend, origin, sessions, unfenced } = internals.of(kv)
    return sessions.onClock(
      internal.open({ make: backend, unfenced, prefix: origin.prefix }, sessions, key, options)
    )
  })

/** Runs the effect while the key exists, and interrupts it when the key is gone for good: see {@link TempKey.lost}. */
export const withTempKey: {
  (key: string, options?: Options): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | KvError.KvError | TempKeyLost | TempKeyTaken, R | Kv>
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    key: string,
    options?: Options
  ): Effect.Effect<A, E | KvError.KvError | TempKeyLost | TempKeyTaken, R | Kv>
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
