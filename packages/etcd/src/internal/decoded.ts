/**
 * Where decoding an answer can fail: a key that is not UTF-8.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import { NotUtf8 } from "./codec.ts"
import { indeterminate, type Kind } from "./errors.ts"

/** The decoded answer. A write whose answer cannot be given was carried out all the same, and must not say otherwise. */
export const decoded = <A>(kind: Kind, decode: () => A): Effect.Effect<A, KvError.KvError> => {
  try {
    return Effect.succeed(decode())
  } catch (error) {
    if (!(error instanceof NotUtf8)) throw error
    return KvError.fail(
      kind === "read"
        ? new KvError.InvalidRequest({ message: error.message })
        : indeterminate(`the write was carried out, but its answer cannot be given: ${error.message}`)
    )
  }
}
