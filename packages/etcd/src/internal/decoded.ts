/**
 * Where decoding an answer can fail: a key that is not UTF-8.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import { NotUtf8 } from "./codec.ts"
import { indeterminate, type Kind } from "./errors.ts"

/**
 * Decodes an answer as far as that is possible. It must not throw for a key: to gRPC that would be a broken message, whose
 * request may or may not have been carried out.
 */
export const orNotUtf8 = <Message, A>(decode: (message: Message) => A) => (message: Message): A | NotUtf8 => {
  try {
    return decode(message)
  } catch (error) {
    if (error instanceof NotUtf8) return error
    throw error
  }
}

/** The decoded answer. A write whose answer cannot be given was carried out all the same, and must not say otherwise. */
export const decoded = <A>(kind: Kind, answer: A | NotUtf8): Effect.Effect<A, KvError.KvError> => {
  if (!(answer instanceof NotUtf8)) return Effect.succeed(answer)
  return KvError.fail(
    kind === "read"
      ? new KvError.InvalidRequest({ message: answer.message })
      : indeterminate(`the write was carried out, but its answer cannot be given: ${answer.message}`)
  )
}
