/**
 * Checks of requests, for backends: they find what is wrong before anything is executed or sent.
 *
 * Each returns what is wrong and what would be right, `undefined` if nothing is wrong; {@link orFail} makes it an
 * `InvalidRequest`. No message repeats a value.
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

/** Fails with `InvalidRequest` and the message if there is a problem. */
export const orFail = (problem: string | undefined): Effect.Effect<void, KvError.KvError> =>
  problem === undefined ? Effect.void : KvError.fail(new KvError.InvalidRequest({ message: problem }))

/**
 * What is wrong with an operation.
 *
 * **Details**
 *
 * Finds empty and ill-formed keys, inverted ranges, limits and revisions that are not positive, strings that are not
 * Unicode, keys written twice in a transaction (by the algorithm of etcd's `checkIntervals`), and transactions with more
 * than `maxTxnOps` operations (by etcd's counting; not limited by default).
 */
export const op: (self: Op, options?: { readonly maxTxnOps?: number | undefined }) => string | undefined = checkOp

/** What is wrong with the request of a watch. */
export const watch = (request: WatchRequest): string | undefined => {
  const problem = KeyRange.invalid(request.range)
  if (problem !== undefined) return problem
  return request.startRevision === undefined ||
      request.startRevision > 0n && BigInt.asIntN(64, request.startRevision) === request.startRevision
    ? undefined
    : `startRevision must be a positive 64-bit integer, not ${request.startRevision}; leave it out to start now`
}

/** What is wrong with the id of an existing lease. */
export const leaseId = (id: bigint): string | undefined =>
  typeof id === "bigint" && BigInt.asIntN(64, id) === id && id !== 0n
    ? undefined
    : `a lease id is a non-zero 64-bit integer, a bigint, not ${id}`

/** The whole seconds to ask the store for. Fails with `InvalidRequest` if the time to live or the id is wrong. */
export const grantSeconds: (options: Lease.GrantOptions) => Effect.Effect<number, KvError.KvError> =
  internal.grantSeconds

/** The most bytes that a value can take, without encoding it: to check the size of a request. */
export const maxBytes: (value: Value) => number = utf8.maxBytes
