/**
 * Makes every write of a backend conditional on something that holds in the store: on a lock still being held.
 *
 * A lock alone excludes others only as long as its holder knows the time; a holder that was paused can write after its
 * lease ended and another took over. A fenced write is a transaction of the store that compares the lock's key first, so
 * a stale holder's write changes nothing. Reads are not fenced, and neither are the lease functions.
 */
import * as Effect from "effect/Effect"
import type * as Compare from "./Compare.ts"
import type { KvBackend } from "./KvBackend.ts"
import type * as KvError from "./KvError.ts"
import * as Op from "./Op.ts"

/**
 * Puts every write behind the conditions; where one does not hold, the write fails with `rejected` and changes nothing.
 *
 * **Gotchas**
 *
 * The conditions take of a transaction's 128 operations what they need: a fenced transaction can hold one less, or as
 * many less as there are conditions.
 */
export const guarded =
  (conditions: ReadonlyArray<Compare.Compare>, rejected: Effect.Effect<never, KvError.KvError>) =>
  (backend: KvBackend): KvBackend => ({
    ...backend,
    execute: <const O extends Op.Op>(op: O) =>
      Op.isWrite(op)
        ? Effect.flatMap(
          backend.execute(Op.txn({ if: conditions, then: [op] })),
          (response): Effect.Effect<Op.Response<O>, KvError.KvError> =>
            response.succeeded ? Effect.succeed(response.responses[0]) : rejected
        )
        : backend.execute(op)
  })
