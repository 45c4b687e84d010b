/**
 * A put that keeps the lease of its key.
 *
 * etcd's `ignore_lease` would do so in one request. But it fails if the key is missing, and takes every other write of
 * the batch with it.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import type { Value } from "../../values/Entry.ts"
import type * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as conflicts from "./conflicts.ts"

/** Two requests. A missing key is created without a lease. */
export const put = Effect.fnUntraced(function*(
  backend: KvBackend,
  key: string,
  value: Value,
  previous: boolean | undefined
): Effect.fn.Return<Op.PutResponse, KvError.KvError> {
  const attempts = yield* conflicts.start
  let current = yield* execute(backend, Op.get(key))
  while (true) {
    const lease = Option.flatMap(Option.fromUndefinedOr(current.entries[0]), (entry) => entry.lease)
    const response = yield* execute(
      backend,
      Op.txn({
        if: [Compare.lease(key, "=", lease)],
        then: [Op.put(key, value, { lease, previous })],
        else: [Op.get(key)]
      })
    )
    if (response.succeeded) return response.responses[0]
    yield* attempts.next
    current = response.responses[0]
  }
})
