/**
 * Checks of requests, for backends: they find a problem before anything is executed or sent.
 *
 * Each returns the problem and how to correct it; `undefined` if the request is valid. {@link orFail} turns a problem
 * into an `InvalidRequest`. No message repeats a value.
 */
import * as Effect from "effect/Effect"
import { checkOp } from "../internal/values/checkOp.ts"
import * as internal from "../internal/values/grantSeconds.ts"
import * as utf8 from "../internal/values/utf8.ts"
import type { Value } from "../values/Entry.ts"
import * as KeyRange from "../values/KeyRange.ts"
import * as KvError from "../values/KvError.ts"
import type * as Lease from "../values/LeaseModel.ts"
import type { Op } from "../values/Op.ts"
import type { WatchRequest } from "../values/Watch.ts"

/**
 * Fails with `InvalidRequest` and the message if there is a problem.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 * import { Check } from "@effect-kv/core/backend"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Check.orFail(Check.op(Op.get("a"))) // => undefined
 *   const error = yield* Effect.flip(Check.orFail(Check.op(Op.get(""))))
 *   error.reason._tag // => "InvalidRequest"
 * })
 * ```
 *
 * @since 0.1.0
 */
export const orFail = (problem: string | undefined): Effect.Effect<void, KvError.KvError> =>
  problem === undefined ? Effect.void : KvError.fail(new KvError.InvalidRequest({ message: problem }))

/**
 * The problem with an operation; `undefined` if it is valid.
 *
 * **Details**
 *
 * Finds empty and ill-formed keys, inverted ranges, limits and revisions that are not positive, strings that are not
 * Unicode, and keys written twice in a transaction (by the algorithm of etcd's `checkIntervals`). With `maxTxnOps` it
 * also finds transactions with more operations, counted as etcd does; default: no limit.
 *
 * @example
 * ```ts
 * import { Op } from "@effect-kv/core"
 * import { Check } from "@effect-kv/core/backend"
 *
 * Check.op(Op.get("a")) // => undefined
 * Check.op(Op.get("")) // => "a key must not be empty"
 * ```
 *
 * @since 0.1.0
 */
export const op: (self: Op, options?: { readonly maxTxnOps?: number | undefined }) => string | undefined = checkOp

/**
 * The problem with the request of a watch; `undefined` if it is valid.
 *
 * @example
 * ```ts
 * import { KeyRange } from "@effect-kv/core"
 * import { Check } from "@effect-kv/core/backend"
 *
 * Check.watch({ range: KeyRange.key("a") }) // => undefined
 * Check.watch({ range: KeyRange.key("") }) // => "a key must not be empty"
 * ```
 *
 * @since 0.1.0
 */
export const watch = (request: WatchRequest): string | undefined => {
  const problem = KeyRange.invalid(request.range)
  if (problem !== undefined) return problem
  return request.startRevision === undefined ||
      request.startRevision > 0n && BigInt.asIntN(64, request.startRevision) === request.startRevision
    ? undefined
    : `startRevision must be a positive 64-bit integer, not ${request.startRevision}; leave it out to start now`
}

/**
 * The problem with the id of an existing lease; `undefined` if it is valid.
 *
 * @example
 * ```ts
 * import { Check } from "@effect-kv/core/backend"
 *
 * Check.leaseId(7n) // => undefined
 * Check.leaseId(0n) // => "a lease id is a non-zero 64-bit integer, a bigint, not 0"
 * ```
 *
 * @since 0.1.0
 */
export const leaseId = (id: bigint): string | undefined =>
  typeof id === "bigint" && BigInt.asIntN(64, id) === id && id !== 0n
    ? undefined
    : `a lease id is a non-zero 64-bit integer, a bigint, not ${id}`

/**
 * The whole seconds to request from the store. Fails with `InvalidRequest` for an invalid time to live or id.
 *
 * @example
 * ```ts
 * import { Check } from "@effect-kv/core/backend"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Check.grantSeconds({ ttl: "2500 millis" }) // => 3
 * })
 * ```
 *
 * @since 0.1.0
 */
export const grantSeconds: (options: Lease.GrantOptions) => Effect.Effect<number, KvError.KvError> =
  internal.grantSeconds

/**
 * An upper bound of a value's bytes, computed without encoding it. For checking the size of a request.
 *
 * @example
 * ```ts
 * import { Check } from "@effect-kv/core/backend"
 *
 * Check.maxBytes("a") // => 3
 * Check.maxBytes(new Uint8Array(8)) // => 8
 * ```
 *
 * @since 0.1.0
 */
export const maxBytes: (value: Value) => number = utf8.maxBytes
