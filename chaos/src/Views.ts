/**
 * The views of a round's clients: sampled during the round and compared with the store's history afterwards.
 */
import type * as KvError from "@effect-kv/core/KvError"
import type * as RangeView from "@effect-kv/core/RangeView"
import type { EtcdCluster } from "@effect-kv/test-suite/verification"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

/** The snapshot of a view once it has reached the revision, or its last one if it does not reach it in time. */
export const snapshotAt = (
  view: RangeView.RangeView,
  revision: bigint,
  within: Duration.Input
): Effect.Effect<RangeView.Snapshot, KvError.KvError> =>
  Effect.timeoutOrElse(
    Effect.repeat(view.snapshot, {
      until: (snapshot) => snapshot.revision >= revision,
      schedule: Schedule.spaced("20 millis")
    }).pipe(Effect.andThen(view.snapshot)),
    { duration: within, orElse: () => view.snapshot }
  )

/** Samples a view until it is interrupted or its client closes. */
export const look = (
  view: RangeView.RangeView,
  seen: Array<RangeView.Snapshot>
): Effect.Effect<never, KvError.KvError> =>
  Effect.forever(
    Effect.flatMap(view.snapshot, (snapshot) => {
      if (seen.at(-1) !== snapshot) seen.push(snapshot)
      return Effect.sleep("250 millis")
    })
  ).pipe(Effect.catchReason("KvError", "Closed", () => Effect.never))

/**
 * A view shows what the store held at its revision and never goes back. Reports the first snapshot that violates this.
 */
export const wrongView = (
  client: string,
  seen: ReadonlyArray<RangeView.Snapshot>,
  changes: ReadonlyArray<EtcdCluster.HistoryEvent>
): ReadonlyArray<string> => {
  const ofView = changes.filter(({ key }) => /^[^/]*\/txn\//.test(key))
  const held = new Map<string, EtcdCluster.HistoryEvent>()
  let next = 0
  let last = 0n
  for (const { entries, revision } of seen) {
    if (revision < last) return [`the view of ${client} went back from revision ${last} to ${revision}`]
    last = revision
    for (; next < ofView.length && ofView[next]!.modRevision <= revision; next++) {
      const change = ofView[next]!
      if (change.type === "put") held.set(change.key, change)
      else held.delete(change.key)
    }
    const differs = [...new Set([...held.keys(), ...entries.keys()])].filter((key) =>
      held.get(key)?.value !== entries.get(key)?.lossyText ||
      held.get(key)?.modRevision !== entries.get(key)?.modRevision
    )
    if (differs.length > 0) return [`the view of ${client} at revision ${revision} is wrong in ${differs.join(", ")}`]
  }
  return []
}

/** Reports a view that has not reached the last change. */
export const isBehind = (
  client: string,
  seen: ReadonlyArray<RangeView.Snapshot>,
  changes: ReadonlyArray<EtcdCluster.HistoryEvent>
): ReadonlyArray<string> => {
  const end = changes.findLast(({ key }) => /^[^/]*\/txn\//.test(key))?.modRevision ?? 0n
  const last = seen.at(-1)?.revision ?? 0n
  return last >= end ? [] : [`the view of ${client} is at revision ${last} of ${end}`]
}
