/**
 * What a response comes to: the decoded answer, or why there is none. A key may not be UTF-8, and the response may be of
 * another store than the one that was asked.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import { indeterminate } from "../rpc/errors.ts"
import type { Call, RetryPolicy } from "../rpc/retry.ts"
import { type Order, Replaced, type StoreIdentity } from "../store/storeIdentity.ts"
import type { Suspicions } from "../store/storeProbe.ts"
import { NotUtf8 } from "./codec.ts"
import type { Header } from "./header.ts"
import { headerOf } from "./responses.ts"

/** A response and its header. */
export interface Answer<out A> {
  readonly header: Header
  readonly value: A
}

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

/** Decodes an answer with its header. */
export const withHeader =
  <A>(decode: (message: Buffer, revision: bigint) => A) => (message: Buffer): Answer<A | NotUtf8> => {
    const header = headerOf(message)
    return { header, value: orNotUtf8((message: Buffer) => decode(message, header.revision))(message) }
  }

/** The store that responses are compared with. */
export interface Store {
  readonly identity: StoreIdentity
  readonly suspicions: Suspicions
}

/** Sends a request, and compares the response with what was known of the store when it was sent. */
export const observed =
  <A>(store: Store, order: Order, send: Call<Answer<A>>["send"]): Call<A | Replaced>["send"] => (attempt) => {
    const sent = store.identity.sent()
    return Effect.map(send(attempt), ({ header, value }) => {
      const observation = store.identity.observe(header, sent, attempt.endpoint.address, order)
      if (observation === "Behind") store.suspicions.raise()
      return observation instanceof Replaced ? observation : value
    })
  }

/** The decoded answer. A write whose answer cannot be given was carried out all the same, and must not say otherwise. */
export const decoded = <A>(policy: RetryPolicy, answer: A | NotUtf8 | Replaced): Effect.Effect<A, KvError.KvError> => {
  if (answer instanceof Replaced) return KvError.fail(storeReplaced(answer, policy))
  if (!(answer instanceof NotUtf8)) return Effect.succeed(answer)
  return KvError.fail(
    policy === "read"
      ? new KvError.InvalidRequest({ message: answer.message })
      : indeterminate(`the write was carried out, but its answer cannot be given: ${answer.message}`)
  )
}

/** Of a write it is unknown whether it is in the store that is there now or in the one before. */
export const storeReplaced = ({ message }: Replaced, policy: RetryPolicy): KvError.StoreReplaced =>
  new KvError.StoreReplaced({ message, outcome: policy === "read" ? "NotApplied" : "Unknown" })
