/**
 * A participant of a counter: it alone writes its own total.
 *
 * Each write is conditional on the revision of the previous one, and has the whole total. So it can be repeated when its
 * response was lost: of all attempts at one revision, at most one is applied. The key is created with the total 0, before
 * anything is added. So an attempt that arrives after the key was folded finds no key, and is rejected.
 */
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import { execute, type KvBackend } from "../../backend/KvBackend.ts"
import * as Compare from "../../values/Compare.ts"
import * as Deadline from "../../values/Deadline.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KvError from "../../values/KvError.ts"
import * as Op from "../../values/Op.ts"
import * as conflicts from "../kv/conflicts.ts"
import * as totals from "./totals.ts"

/** The participant's total in the store. */
interface Total {
  readonly value: bigint
  readonly revision: bigint
  readonly createRevision: bigint
}

const totalOf = (entry: Entry): Effect.Effect<Total, KvError.KvError> =>
  Effect.map(
    totals.totalOf(entry),
    (value) => ({ value, revision: entry.modRevision, createRevision: entry.createRevision })
  )

export interface Participant {
  readonly add: (amount: bigint) => Effect.Effect<void, KvError.KvError>
  /** Ends the participant. Its total becomes part of the sum of those that have ended. */
  readonly end: Effect.Effect<void>
}

export const make = (backend: KvBackend, unfenced: KvBackend, names: totals.Names, id: string): Participant => {
  const key = names.totals + id
  const turn = Semaphore.makeUnsafe(1)
  let known: Total | undefined
  let hasEnded = false

  /** The total in the store. Creates the key if it does not exist. */
  const current = Effect.fnUntraced(function*(): Effect.fn.Return<Total, KvError.KvError> {
    if (known !== undefined) return known
    const response = yield* execute(
      backend,
      Op.txn({ if: [Compare.missing(key)], then: [Op.put(key, "0")], else: [Op.get(key)] })
    )
    const entry = response.succeeded ? undefined : response.responses[0].entries[0]
    return known = entry === undefined
      ? { value: 0n, revision: response.revision, createRevision: response.revision }
      : yield* totalOf(entry)
  })

  /** Adds once. `true` if it did, `false` if the total in the store was another than the known one. */
  const attempt = Effect.fnUntraced(function*(
    before: Total,
    after: bigint
  ): Effect.fn.Return<boolean, KvError.KvError> {
    const response = yield* execute(
      backend,
      Op.txn({
        if: [Compare.modRevision(key, "=", before.revision)],
        then: [Op.put(key, `${after}`)],
        else: [Op.get(key)]
      })
    )
    if (response.succeeded) {
      known = { ...before, value: after, revision: response.revision }
      return true
    }
    const entry = response.responses[0].entries[0]
    known = entry && (yield* totalOf(entry))
    return false
  })

  const add = Effect.fnUntraced(function*(amount: bigint): Effect.fn.Return<void, KvError.KvError> {
    if (hasEnded) return yield* KvError.fail(new KvError.Closed({ message: "the scope of the counter was closed" }))
    if (amount === 0n) return
    const attempts = yield* conflicts.start
    // An attempt whose response was lost: the total that it would have made.
    let lost: { readonly total: bigint; readonly error: KvError.KvError } | undefined
    while (true) {
      // The creation adds nothing, so it can be repeated.
      const before = yield* Effect.mapError(
        Effect.retry(current(), { while: ({ reason }) => reason._tag === "Indeterminate", times: 3 }),
        (error) => lost?.error ?? error
      )
      const after = before.value + amount
      const outcome = yield* Effect.result(attempt(before, after))
      if (outcome._tag === "Success") {
        if (outcome.success) return
        if (lost !== undefined) {
          // This participant alone writes the key. If it was folded, it may have been with or without the amount.
          if (known?.createRevision !== before.createRevision) return yield* lost.error
          if (known.value === lost.total) return
          lost = undefined
        }
      } else {
        const error = outcome.failure
        if (error.reason._tag === "Indeterminate") lost = { total: after, error }
        else if (lost === undefined) return yield* error
        else if (!error.isRetryable) return yield* lost.error
      }
      const isLost = lost
      yield* Effect.mapError(attempts.next, (error) => isLost?.error ?? error)
    }
  })

  return {
    add: (amount) => Semaphore.withPermit(turn, add(amount)),
    end: Effect.suspend(() => {
      hasEnded = true
      // Whatever is left is folded by the next participant.
      return Semaphore.withPermit(turn, totals.foldOwn(unfenced, names, key)).pipe(
        Deadline.within("1 second"),
        Effect.ignore
      )
    })
  }
}
