/**
 * What an operator wants to know of a queue: how many items are in each state, and which have failed.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type * as Kv from "@effect-kv/core/Kv"
import * as KvError from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as keysOf from "./keys.ts"

/**
 * How many items of a queue are in each state, at one revision.
 *
 * @since 0.1.0
 */
export interface Counts {
  /** Can be taken now. */
  readonly ready: number
  /** Can be taken at a later time, or were returned just now. */
  readonly delayed: number
  /** Are being processed, or were left behind by a worker that is gone. */
  readonly claimed: number
  /** Were completed and not cleaned up yet. */
  readonly completed: number
  /** Have failed for good and were not cleaned up yet. */
  readonly failed: number
}

export const counts = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  prefix: string,
  name: string
): Effect.fn.Return<Counts, KvError.KvError> {
  const keys = keysOf.make(prefix, name)
  const of = (range: KeyRange.KeyRange) => Op.range(range, { countOnly: true })
  const response = yield* kv.txn({
    then: [
      of(keysOf.readyOf(keys)),
      of(keysOf.dueOf(keys)),
      of(KeyRange.prefix(`${keys.root}claim/`)),
      of(keysOf.endedOf(keys, "done")),
      of(keysOf.endedOf(keys, "spent")),
      of(keysOf.endedOf(keys, "failed"))
    ]
  })
  const [ready = 0, delayed = 0, claimed = 0, done = 0, spent = 0, failed = 0] = response.responses.map(({ count }) =>
    count
  )
  return { ready, delayed, claimed, completed: done + spent, failed }
})

/**
 * An item that has failed for good.
 *
 * @since 0.1.0
 */
export interface FailedItem {
  readonly id: string
  /** How often it was delivered. */
  readonly attempts: number
  /** The last failure, as text. */
  readonly error: string
  /** By the clock of the worker that failed. */
  readonly failedAt: DateTime.Utc
  /** The element as it is stored: encoded by the queue's schema. */
  readonly element: unknown
}

const Failure = Schema.fromJsonString(Schema.Struct({ attempts: Schema.Number, error: Schema.String }))
const decodeFailure = Schema.decodeUnknownOption(Failure)

/** A request returns all of them, so there is a limit. */
const maxFailed = 64

export const failed = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  prefix: string,
  name: string,
  limit: number
): Effect.fn.Return<ReadonlyArray<FailedItem>, KvError.KvError> {
  if (!(Number.isSafeInteger(limit) && limit >= 1 && limit <= maxFailed)) {
    return yield* KvError.fail(
      new KvError.InvalidRequest({ message: `limit must be an integer from 1 to ${maxFailed}, not ${limit}` })
    )
  }
  const keys = keysOf.make(prefix, name)
  const { entries, revision } = yield* kv.range(keysOf.endedOf(keys, "failed"), { limit })
  return yield* Effect.forEach(entries, (entry) => {
    const id = keysOf.idOf(entry.key)
    const { attempts, error } = Option.getOrElse(decodeFailure(entry.lossyText), () => ({ attempts: 0, error: "" }))
    return Effect.map(kv.getEntry(keysOf.item(keys, id), { revision }), (item) => ({
      id,
      attempts,
      error,
      failedAt: DateTime.makeUnsafe(keysOf.timeOfEnded(keys, "failed", entry.key)),
      element: keysOf.decodeItem(Option.match(item, { onNone: () => "", onSome: ({ lossyText }) => lossyText })).element
    }))
  }, { concurrency: "unbounded" })
})
