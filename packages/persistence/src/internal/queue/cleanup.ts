/**
 * The removal of ended items, oldest first and in batches of bounded size.
 */
import * as Compare from "@effect-kv/core/Compare"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as segment from "../segment.ts"
import * as failures from "./failures.ts"
import * as keysOf from "./keys.ts"

/** How many items a transaction removes. Each takes a nested transaction with two deletes. */
export const batchSize = 48

/** Removes one batch of items that ended at the time or before. True if there may be more. */
export const removeBatch = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  keys: keysOf.Keys,
  kind: keysOf.Ended,
  until: number
): Effect.fn.Return<boolean, KvError> {
  const { entries, more } = yield* kv.range(keysOf.endedOf(keys, kind), { limit: batchSize, keysOnly: true })
  const old = entries.filter(({ key }) => keysOf.timeOfEnded(keys, kind, key) <= until)
  if (old.length === 0) return false
  yield* failures.persistently(kv.txn({
    then: old.map(({ createRevision, key }) =>
      Op.txn({
        // Another cleanup may have removed it, and the id may have been offered again: then the item is a new one.
        if: [Compare.createRevision(key, "=", createRevision)],
        then: [Op.delete(key), Op.delete(keysOf.item(keys, keysOf.idOf(key)))]
      })
    )
  }))
  return more && old.length === entries.length
})

/** How long items with generated ids are kept: longer than a lost response can delay the repetition of an offer. */
const spentRetention = Duration.minutes(10)

/** The time at which items with generated ids must have ended to be removed. */
export const spentUntil = (now: number): number => now - Duration.toMillis(spentRetention)

export interface Options {
  readonly timeToLive: Duration.Duration
  readonly failedTimeToLive: Duration.Duration | undefined
}

/** Removes what is old enough, in all queues. */
export const cleanup = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  prefix: string,
  { failedTimeToLive, timeToLive }: Options,
  now: number
): Effect.fn.Return<void, KvError> {
  const ago = (time: Duration.Duration) => now - Duration.toMillis(time)
  for (const name of yield* names(kv, prefix)) {
    const keys = keysOf.make(prefix, name)
    yield* removeAll(kv, keys, "done", ago(timeToLive))
    yield* removeAll(kv, keys, "spent", ago(Duration.min(timeToLive, spentRetention)))
    if (failedTimeToLive !== undefined) yield* removeAll(kv, keys, "failed", ago(failedTimeToLive))
  }
})

const removeAll = (kv: Kv.Kv, keys: keysOf.Keys, kind: keysOf.Ended, until: number): Effect.Effect<void, KvError> =>
  Effect.flatMap(
    removeBatch(kv, keys, kind, until),
    (hasMore) => hasMore ? removeAll(kv, keys, kind, until) : Effect.void
  )

/** The names of all queues, found by one read for each, however many keys they have. */
export const names = Effect.fnUntraced(function*(
  kv: Kv.Kv,
  prefix: string
): Effect.fn.Return<ReadonlyArray<string>, KvError> {
  const found: Array<string> = []
  let from = prefix
  while (true) {
    const { entries: [entry] } = yield* kv.range({ _tag: "Prefix", prefix, from }, {
      limit: 1,
      keysOnly: true
    })
    if (entry === undefined) return found
    const name = entry.key.slice(prefix.length).split("/", 1)[0]!
    found.push(segment.nameOf(name))
    // The first key that is not in this queue: "0" follows "/".
    from = `${prefix}${name}0`
  }
})
