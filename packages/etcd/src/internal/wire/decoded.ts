/**
 * The result of a response: its decoded value, or the reason why there is none. A key may not be UTF-8, or the response
 * may come from a different store than the request expected.
 */
import * as KvError from "@effect-kv/core/KvError"
import * as Effect from "effect/Effect"
import { indeterminate } from "../rpc/errors.ts"
import type { Call, RetryPolicy } from "../rpc/retry.ts"
import * as rpc from "../rpc/rpc.ts"
import { type Order, Replaced, type StoreIdentity } from "../store/storeIdentity.ts"
import type { Suspicions } from "../store/storeProbe.ts"
import { NotUtf8 } from "./codec.ts"
import type { Header } from "./header.ts"
import { headerOf } from "./responses.ts"

/** A response and its header. */
export interface WithHeader<out A> {
  readonly header: Header
  readonly value: A
}

/**
 * Decodes a response, and returns `NotUtf8` instead of throwing it. A throw would look like a broken message to the
 * transport, whose request may or may not have been executed.
 */
export const orNotUtf8 = <Message, A>(decode: (message: Message) => A) => (message: Message): A | NotUtf8 => {
  try {
    return decode(message)
  } catch (error) {
    if (error instanceof NotUtf8) return error
    throw error
  }
}

/** Decodes a response with its header. */
export const withHeader =
  <A>(decode: (message: Buffer, revision: bigint) => A) => (message: Buffer): WithHeader<A | NotUtf8> => {
    const header = headerOf(message)
    return { header, value: orNotUtf8((message: Buffer) => decode(message, header.revision))(message) }
  }

/** The known identity of the store, with which responses are compared. */
export interface Store {
  readonly identity: StoreIdentity
  readonly suspicions: Suspicions
}

/** Sends a request, and compares its response with what was known about the store when the request was sent. */
export const observed =
  <A>(store: Store, order: Order, request: rpc.Rpc<WithHeader<A>>): Call<A | Replaced>["send"] => (attempt) => {
    const sent = attempt.known ??= store.identity.sent()
    const decode = (message: Buffer): A | Replaced => {
      const { header, value } = request.decode(message)
      const observation = store.identity.observe(header, sent, attempt.endpoint.address, order)
      if (observation === "Behind") store.suspicions.raise()
      return observation instanceof Replaced ? observation : value
    }
    return rpc.send(attempt, { ...request, decode })
  }

/**
 * The decoded value, or an error. A write whose response cannot be decoded was still executed, so it is Indeterminate.
 */
export const decoded = <A>(policy: RetryPolicy, result: A | NotUtf8 | Replaced): Effect.Effect<A, KvError.KvError> => {
  if (result instanceof Replaced) return KvError.fail(storeReplaced(result, policy))
  if (!(result instanceof NotUtf8)) return Effect.succeed(result)
  return KvError.fail(
    policy === "read"
      ? new KvError.InvalidRequest({ message: result.message })
      : indeterminate(`the write was executed, but its response cannot be returned: ${result.message}`)
  )
}

/** It is unknown whether a write went to the old store or to the new one. */
export const storeReplaced = ({ message }: Replaced, policy: RetryPolicy): KvError.StoreReplaced =>
  new KvError.StoreReplaced({ message, outcome: policy === "read" ? "NotApplied" : "Unknown" })
