/**
 * Offers: one transaction puts the item and its place, if the id is new.
 *
 * The item stays when it is completed, as the record that de-duplicates. So an offer whose response was lost can be sent
 * again: it finds the item, or the record of a completed one.
 */
import * as Compare from "@effect-kv/core/Compare"
import type * as Kv from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Op from "@effect-kv/core/Op"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as keysOf from "./keys.ts"

export interface Options {
  readonly id: string
  readonly element: unknown
  readonly isCustomId: boolean
  readonly delay?: Duration.Duration | undefined
}

export const offer = (
  kv: Kv.Kv,
  keys: keysOf.Keys,
  { delay, element, id, isCustomId }: Options,
  now: number
): Effect.Effect<unknown, KvError> => {
  const item = keysOf.item(keys, id)
  const value = keysOf.encodeItem(element, isCustomId)
  const place = delay === undefined
    ? keysOf.ready(keys, id)
    : keysOf.due(keys, now + Duration.toMillis(delay), 0n, id)
  return Effect.retry(
    kv.txn({
      if: [Compare.missing(item)],
      then: [Op.put(item, value), Op.put(place, keysOf.encodeMarker({ attempts: 0, size: value.length, place: 0n }))]
    }),
    // Each attempt already repeats what has not left this process, until its deadline.
    { while: ({ reason }) => reason._tag === "Indeterminate", times: 3 }
  )
}
