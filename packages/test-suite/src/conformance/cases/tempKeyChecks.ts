/**
 * Temporary keys for the cases about them, and checks of their keys.
 */
import type * as Kv from "@effect-kv/core/Kv"
import * as TempKey from "@effect-kv/core/TempKey"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { promptly } from "./Case.ts"
import { entryOf } from "./entries.ts"
import { on } from "./locking.ts"

/** A temporary key that can be closed. */
export const open = Effect.fnUntraced(function*(kv: Kv.Kv, key: string, options?: TempKey.Options) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const tempKey = yield* promptly("the key", Scope.provide(on(kv)(TempKey.make(key, options)), scope))
  return { tempKey, close: Scope.close(scope, Exit.void) }
})

export const isThere = (kv: Kv.Kv, key: string) => Effect.map(kv.getEntry(key), Option.isSome)

export const leaseOf = (kv: Kv.Kv, key: string) =>
  Effect.map(entryOf(kv, key), (entry) => Option.getOrThrow(entry.lease))
