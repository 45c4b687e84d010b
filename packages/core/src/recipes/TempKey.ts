/**
 * Temporary keys, which exist as long as a scope. Use them to register a worker, to count running instances, or
 * to publish an address.
 *
 * A temporary key is deleted when its scope closes. If the process crashes, its lease deletes it within its time to
 * live. If its lease is lost or another client deletes it, it is recreated. It never overwrites a key of another
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

export type { Options, Status, TempKey }

/**
 * Creates a temporary key. It exists when this returns, and until the scope closes.
 *
 * Fails with `TempKeyTaken` if the key exists, unless `onTaken` is `"wait"`.
 *
 * @example
 * ```ts
 * import { Kv, TempKey } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Effect.scoped(Effect.gen(function*() {
 *     yield* TempKey.make("workers/a", { value: "10.0.0.1" })
 *     yield* Kv.get("workers/a") // => Option.some("10.0.0.1")
 *   }))
 *   yield* Kv.get("workers/a") // => Option.none()
 * })
 * ```
 *
 * @since 0.1.0
 */
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

/**
 * Runs the effect while the key exists.
 *
 * **Details**
 *
 * The key is created before the effect starts, and deleted when it has ended. If the key is gone permanently, the effect
 * is interrupted, its finalizers run, and the whole fails as {@link TempKey.lost} does. By default a lost key is
 * re-created, and the effect continues meanwhile.
 *
 * @example
 * ```ts
 * import { Kv, TempKey } from "@effect-kv/core"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Kv.get("workers/a").pipe(
 *     TempKey.withTempKey("workers/a", { value: "10.0.0.1" })
 *   ) // => Option.some("10.0.0.1")
 * })
 * ```
 *
 * @since 0.1.0
 */
export const withTempKey: {
  <A, E, R>(
    effect: Effect.Effect<A, E, R>,
    key: string,
    options?: Options
  ): Effect.Effect<A, E | KvError.KvError | TempKeyLost | TempKeyTaken, R | Kv>
  // Last, because TypeScript reports the errors of the last overload: they name the option that is wrong.
  (key: string, options?: Options): <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | KvError.KvError | TempKeyLost | TempKeyTaken, R | Kv>
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
