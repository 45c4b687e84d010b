/**
 * Failures of the store, as the API reports them.
 */
import { type KvCollection, KvError } from "@effect-kv/core"
import * as Effect from "effect/Effect"
import * as Api from "./Api.ts"

/** Bad data is a bug and not the caller's: it becomes a defect, which is logged and becomes status 500. */
export const orUnavailable = <A, R>(
  effect: Effect.Effect<A, KvError.KvError | KvCollection.DecodeError | KvCollection.EncodeError, R>
): Effect.Effect<A, Api.StoreUnavailable, R> =>
  Effect.catch(effect, (error) =>
    KvError.isKvError(error)
      ? Effect.fail(new Api.StoreUnavailable({ message: error.message, outcome: error.outcome }))
      : Effect.die(error))
