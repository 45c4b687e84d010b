/**
 * The views of a round's clients, judged when nothing changes any more.
 */
import type * as KvError from "@effect-kv/core/KvError"
import type * as Latest from "@effect-kv/core/Latest"
import type * as EtcdCluster from "@effect-kv/test-suite/EtcdCluster"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

/** What a view shows when it has come to the revision, or when it should have. */
export const snapshotAt = (
  view: Latest.Latest,
  revision: bigint,
  within: Duration.Input
): Effect.Effect<Latest.Snapshot, KvError.KvError> =>
  Effect.timeoutOrElse(
    Effect.repeat(view.snapshot, {
      until: (snapshot) => snapshot.revision >= revision,
      schedule: Schedule.spaced("20 millis")
    }).pipe(Effect.andThen(view.snapshot)),
    { duration: within, orElse: () => view.snapshot }
  )

/** A view shows what the store held at its revision; nothing changes any more when it is looked at. */
export const wrongView = (
  client: string,
  { entries, revision }: Latest.Snapshot,
  changes: ReadonlyArray<EtcdCluster.HistoryEvent>
): ReadonlyArray<string> => {
  const held = new Map<string, EtcdCluster.HistoryEvent>()
  for (const change of changes) {
    if (!/^[^/]*\/txn\//.test(change.key)) continue
    if (change.type === "put") held.set(change.key, change)
    else held.delete(change.key)
  }
  const differs = [...new Set([...held.keys(), ...entries.keys()])].filter((key) =>
    held.get(key)?.value !== entries.get(key)?.text || held.get(key)?.modRevision !== entries.get(key)?.modRevision
  )
  return differs.length === 0 ? [] : [`the view of ${client} at revision ${revision} is wrong in ${differs.join(", ")}`]
}
